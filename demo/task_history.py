"""What a task went through, and when."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from demo.airflow_api import AirflowApi

LOGGED = {"running", "deferred", "success", "failed", "up_for_retry", "skipped"}
"""States of which Airflow's event log keeps the moment."""

STAMPED = {"scheduled": "scheduled_when", "queued": "queued_when"}
"""States of which the task instance keeps the last moment. What is neither is as exact as we look often."""


@dataclass
class TaskHistory:
    """
    The states of one task instance, as they are seen.

    :param api: Airflow
    :param dag_id: the DAG
    :param run_id: the run
    :param task_id: the task
    """

    api: AirflowApi
    dag_id: str
    run_id: str
    task_id: str
    seen: list[tuple[float, str]] = field(default_factory=list)
    stamps: set[tuple[float, str]] = field(default_factory=set)
    try_number: int = 0

    def look(self) -> str | None:
        """Take note of the task's state and return it."""
        now = time.time()
        task = self._task_instance()
        state = task.get("state")
        self.try_number = task.get("try_number") or 0
        self.stamps |= {(_epoch(task[name]), state) for state, name in STAMPED.items() if task.get(name)}
        if state and (not self.seen or self.seen[-1][1] != state):
            self.seen.append((now, state))
        return str(state) if state else None

    def states(self) -> list[tuple[float, str]]:
        """Return the states with their moments, as epoch seconds."""
        entries = self.api.get("eventLogs", dag_id=self.dag_id, run_id=self.run_id, task_id=self.task_id, limit=100)
        exact = {(_epoch(entry["when"]), entry["event"]) for entry in entries["event_logs"] if entry["event"] in LOGGED}
        exact |= self.stamps
        named = {state for _, state in exact}
        return sorted(exact | {(moment, state) for moment, state in self.seen if state not in named})

    def _task_instance(self) -> dict[str, Any]:
        for task in self.api.task_instances(self.dag_id, self.run_id):
            if task["task_id"] == self.task_id:
                return task
        return {}


def _epoch(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
