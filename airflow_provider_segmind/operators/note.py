"""Where a task keeps its note: Airflow's task state store, from 3.3; nowhere before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_segmind.api.submission import Entry

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

KEY = "segmind_job"


class TaskNote:
    """
    A task's note, one for each map index; survives retries and clears, not a success.

    :param store: Airflow's ``task_state_store``, ``None`` where there is none (before Airflow 3.3): the note then lives
        as long as this object
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._here: Entry | None = None

    @classmethod
    def of(cls, context: Context) -> TaskNote:
        """Return the running task's note."""
        return cls(context.get("task_state_store"))

    @property
    def lasts(self) -> bool:
        """Whether a later try can read it."""
        return self._store is not None

    def read(self) -> Entry | None:
        """Return the entry, ``None`` where there is none."""
        return self._here if self._store is None else Entry.read(self._store.get(KEY))

    def write(self, entry: Entry) -> None:
        """Keep an entry."""
        self._here = entry
        if self._store is not None:
            self._store.set(KEY, entry.as_json())

    def forget(self) -> None:
        """Drop the entry."""
        self._here = None
        if self._store is not None:
            self._store.delete(KEY)
