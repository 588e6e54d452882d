"""Where a task keeps its note: Airflow's task state store, from 3.3; nowhere before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_segmind.api.note import Entry

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

KEY = "segmind_job"
FINISHED = "finished_in"
KEPT_FOR = timedelta(days=14)  # whatever [state_store] default_retention_days says: a file is kept for 7
SETTLED_FOR = timedelta(days=1)  # longer than Airflow lets a retry wait by default


class TaskNote:
    """
    A task's note, one for each map index; survives retries and clears, and after a success only what is no Clear.

    :param store: Airflow's ``task_state_store``, ``None`` where there is none (before Airflow 3.3): the note then lives
        as long as this object
    :param series: what the retries of a try have in common and a user's Clear changes; ``None``: not known
    """

    def __init__(self, store: Any, series: int | None = None) -> None:
        self._store = store
        self._series = series
        self._here: Entry | None = None

    @classmethod
    def of(cls, context: Context) -> TaskNote:
        """Return the running task's note."""
        # Airflow raises the number of the last allowed try when a task is cleared, and only then.
        series = getattr(context["ti"], "max_tries", None)
        return cls(context.get("task_state_store"), series if isinstance(series, int) else None)

    @property
    def lasts(self) -> bool:
        """Whether a later try can read it."""
        return self._store is not None

    def read(self) -> Entry | None:
        """Return the entry, ``None`` where there is none."""
        if self._store is None:
            return self._here
        value = self._store.get(KEY)
        if isinstance(value, Mapping) and value.get(FINISHED, self._series) != self._series:
            return None  # of a success, and its user has cleared the task since
        return Entry.read(value)

    def remember(self, entry: Entry | None) -> None:
        """Take in what a deferral has carried, where nothing else lasts."""
        if not self.lasts:
            self._here = entry

    def write(self, entry: Entry) -> None:
        """Keep an entry."""
        self._here = entry
        if self._store is not None:
            self._store.set(KEY, entry.as_json(), retention=KEPT_FOR)

    def finish(self) -> None:
        """
        Settle the entry: the result is stored.

        A process that dies now, before Airflow has recorded the success, is retried: the retry must still find the job,
        and a later Clear by the user must not.
        """
        entry = None if self._store is None or self._series is None else self.read()
        if entry is None:
            self.forget()
        else:
            self._store.set(KEY, entry.as_json() | {FINISHED: self._series}, retention=SETTLED_FOR)

    def forget(self) -> None:
        """Drop the entry."""
        self._here = None
        if self._store is not None:
            self._store.delete(KEY)
