"""What Airflow's database says about a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.batch.scenarios import Scenario

SIZES = {
    "trigger": "SELECT max(octet_length(kwargs::text)) FROM trigger",
    "event": "SELECT max(octet_length(next_kwargs::text)) FROM task_instance WHERE next_kwargs IS NOT NULL",
    "XCom": "SELECT max(octet_length(value::text)) FROM xcom",
    "checkpoint": "SELECT max(octet_length(value::text)) FROM task_state_store",
}
"""The largest row of each kind that a task writes, in bytes."""


@dataclass(frozen=True)
class RunTimes:
    """When a DAG run began and ended, in epoch seconds, and its state."""

    state: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


class Database:
    """
    A reader of Airflow's tables.

    :param address: the database, in psycopg2's notation
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def state(self, scenario: Scenario) -> str:
        """Return the state of the scenario's DAG run."""
        rows = self._query("SELECT state FROM dag_run WHERE dag_id = %s", scenario.name)
        return str(rows[0][0]) if rows else "none"

    def times(self, scenario: Scenario) -> RunTimes:
        """Return when the scenario's DAG run was."""
        columns = "state, extract(epoch FROM start_date), extract(epoch FROM coalesce(end_date, now()))"
        ((state, began, ended),) = self._query(f"SELECT {columns} FROM dag_run WHERE dag_id = %s", scenario.name)
        return RunTimes(state, float(began), float(ended))

    def task_instances(self, scenario: Scenario) -> set[str]:
        """Return the ids of the scenario's task instances, those of earlier tries included."""
        statement = "SELECT id FROM task_instance WHERE dag_id = %s UNION ALL "
        statement += "SELECT task_instance_id FROM task_instance_history WHERE dag_id = %s"
        return {str(row[0]) for row in self._query(statement, scenario.name, scenario.name)}

    def largest(self) -> dict[str, int]:
        """Return the size of the largest row of each kind in :data:`SIZES`, in bytes."""
        return {kind: int(self._query(statement)[0][0] or 0) for kind, statement in SIZES.items()}

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
