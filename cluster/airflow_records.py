"""Airflow's database and logs, read directly: what runs where, what has run where, and how many rows that took."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TERMINAL_STATES = {"success", "failed", "skipped", "upstream_failed", "removed"}

TRIGGER_LOG = re.compile(r"\.log\.trigger\.(\d+)\.log$")
"""The name of a log of a trigger, which ends with the number of its triggerer."""

SUCCEEDED = re.compile(r"succeeded in ([0-9.]+)s")


@dataclass(frozen=True)
class TaskRecord:
    """
    One task instance.

    :param dag_id: the id of its DAG
    :param map_index: its map index
    :param state: its state
    :param try_number: the number of its last try
    """

    dag_id: str
    map_index: int
    state: str | None
    try_number: int


class AirflowRecords:
    """
    A reader of Airflow's tables and logs.

    :param address: the database, in psycopg2's notation
    :param logs: the folder of the tasks' logs
    """

    def __init__(self, address: str, logs: Path) -> None:
        import psycopg2

        self._connection = psycopg2.connect(address)
        self._connection.autocommit = True
        self._logs = logs

    def close(self) -> None:
        """Close the connection to the database."""
        self._connection.close()

    def states(self, dag_id: str) -> Counter[str]:
        """Count the task instances of a DAG by state."""
        rows = self._query(
            "SELECT COALESCE(state, 'none'), count(*) FROM task_instance WHERE dag_id = %s GROUP BY 1", dag_id
        )
        return Counter(dict(rows))

    def run_state(self, dag_id: str) -> str:
        """Return the state of a DAG's run."""
        return str(self._query("SELECT state FROM dag_run WHERE dag_id = %s", dag_id)[0][0])

    def tasks(self) -> list[TaskRecord]:
        """Return all task instances."""
        return [
            TaskRecord(*row) for row in self._query("SELECT dag_id, map_index, state, try_number FROM task_instance")
        ]

    def running_tasks(self) -> Counter[tuple[str, str]]:
        """Count the tasks that run now, by host and DAG."""
        rows = self._query("SELECT hostname, dag_id, count(*) FROM task_instance WHERE state = 'running' GROUP BY 1, 2")
        return Counter({(host, dag_id): count for host, dag_id, count in rows})

    def assigned_triggers(self) -> Counter[tuple[str, str]]:
        """Count the triggers that are assigned to a triggerer now, by host and DAG."""
        rows = self._query(
            "SELECT job.hostname, task.dag_id, count(*) FROM trigger JOIN job ON job.id = trigger.triggerer_id "
            "JOIN task_instance task ON task.trigger_id = trigger.id GROUP BY 1, 2"
        )
        return Counter({(host, dag_id): count for host, dag_id, count in rows})

    def triggers(self) -> int:
        """Count the triggers that there are now."""
        return int(self._query("SELECT count(*) FROM trigger")[0][0])

    def started_triggers(self) -> Counter[tuple[str, str]]:
        """Count the triggers that have been started, by DAG and host; one that is taken over, twice."""
        hosts = dict(self._query("SELECT id, hostname FROM job WHERE job_type = 'TriggererJob'"))
        started: Counter[tuple[str, str]] = Counter()
        for path in self._logs.rglob("*.log"):
            if found := TRIGGER_LOG.search(path.name):
                for entry in map(json.loads, path.read_text("utf-8").splitlines()):
                    if entry["event"].endswith(" starting"):
                        started[entry["dag_id"], hosts[int(found[1])]] += 1
        return started

    def inserted_rows(self) -> Counter[str]:
        """Count the rows that have been inserted since the start, by table."""
        return Counter(dict(self._query("SELECT relname, n_tup_ins FROM pg_stat_user_tables")))

    def size(self) -> int:
        """Return the size of all tables and indexes in bytes."""
        return int(self._query("SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables")[0][0])

    def _query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows


def seconds_of_parts(log: Path) -> list[float]:
    """Return how long each part of a task held a slot of a worker, from the worker's log."""
    return [float(seconds) for seconds in SUCCEEDED.findall(log.read_text("utf-8", "replace"))]
