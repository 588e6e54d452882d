"""The states of a task with their times."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from demo.airflow_api import AirflowApi

LOGGED = {"running", "deferred", "success", "failed", "up_for_retry", "skipped"}
"""States whose time is in Airflow's event log."""

STAMPED = {"scheduled": "scheduled_when", "queued": "queued_when"}
"""States whose last time is in the task instance. For all other states, the time at which we saw them has to do."""


@dataclass
class TaskHistory:
    """
    The states of one task instance, collected by polling.

    :param api: the client of Airflow's API
    :param dag_id: the id of the DAG
    :param run_id: the id of the run
    :param task_id: the id of the task
    """

    api: AirflowApi
    dag_id: str
    run_id: str
    task_id: str
    seen: list[tuple[float, str]] = field(default_factory=list)
    stamps: set[tuple[float, str]] = field(default_factory=set)
    try_number: int = 0

    def update(self) -> str | None:
        """Record the current state of the task and return it."""
        now = time.time()
        task = self._task_instance()
        state = task.get("state")
        self.try_number = task.get("try_number") or 0
        self.stamps |= {(_epoch(task[name]), state) for state, name in STAMPED.items() if task.get(name)}
        if state and (not self.seen or self.seen[-1][1] != state):
            self.seen.append((now, state))
        return str(state) if state else None

    def states(self) -> list[tuple[float, str]]:
        """Return the states with their times, as epoch seconds."""
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
