"""Kills a worker and a triggerer while they work, as when their machines fail, and starts new ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cluster.airflow_records import AirflowRecords
from cluster.environment import Environment
from cluster.plan import PARTS
from demo.process import Process

Role = Literal["worker", "triggerer"]

DUE_AT: dict[Role, float] = {"worker": 0.05, "triggerer": 0.4}
"""
The share of the photos that must have been submitted before a kill.

What a worker was submitting when it was killed takes longest to recover: the request history is searched for minutes
before a photo that it does not list is submitted. So that comes first, and the rest of the run overlaps with it.
"""

DOWNTIME = 5.0
"""Seconds until the replacement of a killed process is started."""


@dataclass(frozen=True)
class Kill:
    """
    One kill.

    :param role: what was killed
    :param name: the name of the host that failed
    :param work: how many tasks ran on it, or triggers waited, by DAG
    """

    role: Role
    name: str
    work: Mapping[str, int]


@dataclass
class Killer:
    """
    Kills one worker and one triggerer, each at a moment at which it works for both DAGs.

    :param environment: holds the processes
    :param records: says what they work on
    :param report: called with a line about each kill
    """

    environment: Environment
    records: AirflowRecords
    report: Callable[[str], None]
    kills: list[Kill] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pending = list(DUE_AT)
        self._restarts: list[tuple[float, Callable[[], Process]]] = []

    def step(self, submitted: float) -> None:
        """
        Do what is due now.

        :param submitted: the share of the photos that have been submitted
        """
        for role in list(self._pending):
            if submitted >= DUE_AT[role] and self._kill(role):
                self._pending.remove(role)
        self.start_replacements(time.monotonic())

    def start_replacements(self, now: float = math.inf) -> None:
        """Start the replacements that are due, by default all."""
        while self._restarts and self._restarts[0][0] <= now:
            _, start = self._restarts.pop(0)
            self.report(f"started {start().name}")

    def _kill(self, role: Role) -> bool:
        """Kill the host that works most, of those that work for each DAG. Returns ``False`` if there is none."""
        environment, records = self.environment, self.records
        if role == "worker":
            processes, start, counts = environment.workers, environment.start_worker, records.running_tasks()
        else:
            processes, start, counts = environment.triggerers, environment.start_triggerer, records.assigned_triggers()
        works = {
            process: {part.dag_id: counts[process.name, part.dag_id] for part in PARTS}
            for process in processes
            if process.running
        }
        victim = max(works, key=lambda process: (min(works[process].values()), sum(works[process].values())))
        if not all(works[victim].values()):
            return False
        environment.kill(victim)
        self.kills.append(Kill(role, victim.name, works[victim]))
        self.report(f"killed {victim.name} with all its processes; it worked for {works[victim]}")
        self._restarts.append((time.monotonic() + DOWNTIME, start))
        return True
