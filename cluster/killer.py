"""Kills a triggerer and a worker while they work, as when their machines fail, and starts new ones."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from cluster.airflow_records import AirflowRecords
from cluster.environment import Environment
from cluster.plan import Part
from demo.process import Process

Role = Literal["triggerer", "worker"]

DUE_AT: dict[Role, float] = {"triggerer": 0.25, "worker": 0.5}
"""The share of a DAG's photos that must have been submitted before a kill."""

DOWNTIME = 5.0
"""Seconds until the replacement of a killed process is started."""


@dataclass(frozen=True)
class Kill:
    """
    One kill.

    :param role: what was killed
    :param name: the name of the host that failed
    :param dag_id: the DAG that was running
    :param work: the host's triggers, or the tasks that ran on it
    """

    role: Role
    name: str
    dag_id: str
    work: int


@dataclass
class Killer:
    """
    Kills one triggerer and one worker while a DAG runs, those that have most work.

    :param environment: holds the processes
    :param records: says what they work on
    :param part: the DAG's part of the run
    :param report: called with a line about each kill
    """

    environment: Environment
    records: AirflowRecords
    part: Part
    report: Callable[[str], None]
    kills: list[Kill] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pending = list(DUE_AT)
        self._restarts: list[tuple[float, Callable[[], Process]]] = []

    def step(self, submitted: int) -> None:
        """
        Do what is due now.

        :param submitted: how many photos of the DAG have been submitted
        """
        for role in list(self._pending):
            if submitted >= DUE_AT[role] * len(self.part.photos) and self._kill(role):
                self._pending.remove(role)
        self.start_replacements(time.monotonic())

    def start_replacements(self, now: float = math.inf) -> None:
        """Start the replacements that are due, by default all."""
        while self._restarts and self._restarts[0][0] <= now:
            _, start = self._restarts.pop(0)
            self.report(f"started {start().name}")

    def _kill(self, role: Role) -> bool:
        """Kill the host with most work. Returns ``False`` unless each of the hosts has some."""
        processes = self.environment.triggerers if role == "triggerer" else self.environment.workers
        work = self._work(role)
        running = {process.name: process for process in processes if process.running}
        if any(not work[name] for name in running):
            return False
        name = max(running, key=lambda name: work[name])
        self.environment.kill(running[name])
        self.kills.append(Kill(role, name, self.part.dag_id, work[name]))
        what = "triggers" if role == "triggerer" else "running tasks"
        self.report(f"killed {name}, which had {work[name]} {what}, with all its processes")
        start = self.environment.start_triggerer if role == "triggerer" else self.environment.start_worker
        self._restarts.append((time.monotonic() + DOWNTIME, start))
        return True

    def _work(self, role: Role) -> Counter[str]:
        return self.records.assigned_triggers() if role == "triggerer" else self.records.running_tasks()
