"""What Airflow's database says about the run: read directly, for it is the truth while the components die."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chaos.stage import DAG_ID

TERMINAL = {"success", "failed", "skipped", "upstream_failed", "removed"}


@dataclass(frozen=True)
class TaskRecord:
    """
    One task instance as it stands.

    :param task_id: the route
    :param map_index: its place there
    :param state: its state
    :param try_number: how many tries it has had
    """

    task_id: str
    map_index: int
    state: str | None
    try_number: int


class Records:
    """
    A reader of Airflow's tables.

    :param address: the database, as psycopg2 names it
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def states(self) -> Counter[str]:
        """Count the task instances by state."""
        rows = self._ask(
            "SELECT COALESCE(state, 'none'), count(*) FROM task_instance WHERE dag_id = %s GROUP BY 1", DAG_ID
        )
        return Counter(dict(rows))

    def tasks(self) -> list[TaskRecord]:
        """Return all task instances of the run."""
        rows = self._ask("SELECT task_id, map_index, state, try_number FROM task_instance WHERE dag_id = %s", DAG_ID)
        return [TaskRecord(*row) for row in rows]

    def tries(self, task_id: str, map_index: int) -> list[str]:
        """Tell a task instance's earlier tries and the present one, a line each."""
        columns = "try_number, state, start_date, end_date"
        where = "WHERE dag_id = %s AND task_id = %s AND map_index = %s"
        rows = self._ask(
            f"SELECT {columns} FROM task_instance_history {where} UNION SELECT {columns} FROM task_instance {where} "
            "ORDER BY 1",
            *(DAG_ID, task_id, map_index) * 2,
        )
        return [f"try {number}: {state}, {start} to {end}" for number, state, start, end in rows]

    def triggers(self) -> int:
        """Count the triggers that are left."""
        return int(self._ask("SELECT count(*) FROM trigger")[0][0])

    def open_checkpoints(self) -> int:
        """Count the checkpoints that do not say *delivered*, as those of a success do."""
        return int(
            self._ask("SELECT count(*) FROM task_state_store WHERE value::text NOT LIKE %s", "%delivered_in%")[0][0]
        )

    def run_state(self) -> str:
        """Return the run's state."""
        return str(self._ask("SELECT state FROM dag_run WHERE dag_id = %s", DAG_ID)[0][0])

    def _ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(question, values)
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
