"""Airflow's database. It is read directly, since the API server may be down."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chaos.plan import MAPPED_DAG

TERMINAL_STATES = {"success", "failed", "skipped", "upstream_failed", "removed"}


@dataclass(frozen=True)
class TaskRecord:
    """
    One task instance.

    :param task_id: the id of its task, which is its route
    :param map_index: its map index
    :param state: its state
    :param try_number: the number of its last try
    :param dag_id: its DAG
    """

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    dag_id: str = MAPPED_DAG


@dataclass(frozen=True)
class CheckpointRecord:
    """
    One entry of the task state store: the checkpoint of one task instance.

    :param task_id: the id of its task, which is its route
    :param map_index: its map index
    :param state: *submitting*, *submitted* or *delivered*; ``None`` if the entry is not a checkpoint
    :param request_id: the job that it is about
    :param dag_id: its DAG
    """

    task_id: str
    map_index: int
    state: str | None
    request_id: str | None
    dag_id: str = MAPPED_DAG

    @classmethod
    def parse(cls, task_id: str, map_index: int, text: str, dag_id: str = MAPPED_DAG) -> CheckpointRecord:
        """Read a row of the table, without the package's own reader, which the run puts to the test."""
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        fields = value if isinstance(value, dict) else {}
        return cls(task_id, map_index, fields.get("state"), fields.get("request_id"), dag_id)


class AirflowDatabase:
    """
    A reader of Airflow's tables.

    :param address: the database, in psycopg2's notation
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def states(self) -> dict[str, Counter[str]]:
        """Count the task instances of each DAG by state."""
        states: dict[str, Counter[str]] = defaultdict(Counter)
        for dag_id, state, count in self._query(
            "SELECT dag_id, COALESCE(state, 'none'), count(*) FROM task_instance GROUP BY 1, 2"
        ):
            states[dag_id][state] = count
        return states

    def tasks(self) -> list[TaskRecord]:
        """Return all task instances."""
        rows = self._query("SELECT task_id, map_index, state, try_number, dag_id FROM task_instance")
        return [TaskRecord(*row) for row in rows]

    def tries(self, dag_id: str, task_id: str, map_index: int) -> list[str]:
        """Describe the tries of a task instance, one line each."""
        columns = "try_number, state, start_date, end_date"
        where = "WHERE dag_id = %s AND task_id = %s AND map_index = %s"
        rows = self._query(
            f"SELECT {columns} FROM task_instance_history {where} UNION SELECT {columns} FROM task_instance {where} "
            "ORDER BY 1",
            *(dag_id, task_id, map_index) * 2,
        )
        return [f"try {number}: {state}, {start} to {end}" for number, state, start, end in rows]

    def triggers(self) -> int:
        """Count the triggers."""
        return int(self._query("SELECT count(*) FROM trigger")[0][0])

    def checkpoints(self) -> list[CheckpointRecord]:
        """Return everything that the task state store holds."""
        rows = self._query("SELECT task_id, map_index, value, dag_id FROM task_state_store ORDER BY 4, 1, 2")
        return [CheckpointRecord.parse(*row) for row in rows]

    def runs(self) -> dict[str, dict[str, str]]:
        """Return the states of the runs of each DAG, by run id."""
        runs: dict[str, dict[str, str]] = defaultdict(dict)
        for dag_id, run_id, state in self._query("SELECT dag_id, run_id, state FROM dag_run"):
            runs[dag_id][run_id] = state
        return runs

    def running_tasks(self, dag_id: str) -> list[str]:
        """Return the ids of the task instances of a DAG that run, which their processes have in their titles."""
        rows = self._query("SELECT id::text FROM task_instance WHERE dag_id = %s AND state = 'running'", dag_id)
        return [task for (task,) in rows]

    def _query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        import psycopg2

        connection = psycopg2.connect(self._address)
        try:
            yield connection
        finally:
            connection.close()
