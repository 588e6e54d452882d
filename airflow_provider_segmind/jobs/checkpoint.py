"""What a task notes of its job: enough to find it again, nothing that is secret."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_segmind.api.models import is_request_id, parse_number

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def input_digest(model: str, inputs: Mapping[str, object]) -> str:
    """Return the digest of a job's inputs as the DAG gives them."""
    plain = json.dumps([model, inputs], sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """
    What the note says. Plain JSON, without image data or signatures.

    :param digest: of the inputs as the DAG gives them
    :param at: epoch seconds of the submit
    :param request_id: ``None`` while *submitting*
    :param wanted: the fingerprint of the payload, to find it in the history
    """

    model: str
    digest: str
    at: float
    request_id: str | None = None
    wanted: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"state": "submitted" if self.request_id else "submitting", **asdict(self)}

    @classmethod
    def read(cls, value: object) -> Checkpoint | None:
        """Read what was stored, by this or another version; ``None`` where it cannot be understood."""
        if not isinstance(value, Mapping):
            return None
        model, digest, request_id = value.get("model"), value.get("digest"), value.get("request_id")
        at, wanted = parse_number(value.get("at")), value.get("wanted")
        if not isinstance(model, str) or not isinstance(digest, str) or at is None or not 0 <= at < 1e11:
            return None
        return cls(
            model,
            digest,
            at,
            request_id if isinstance(request_id, str) and is_request_id(request_id) else None,
            dict(wanted) if isinstance(wanted, Mapping) else {},
        )


class CheckpointStore(Protocol):
    """Where a task keeps its entry across tries."""

    def read(self) -> Checkpoint | None:
        """Return the entry, ``None`` where there is none."""

    def write(self, entry: Checkpoint) -> None:
        """Keep an entry; only when this has returned may a POST follow."""

    def forget(self) -> None:
        """Drop the entry."""


KEY = "segmind_job"
FINISHED = "finished_in"
KEPT_FOR = timedelta(days=14)  # whatever [state_store] default_retention_days says: a file is kept for 7
SETTLED_FOR = timedelta(days=1)  # longer than Airflow lets a retry wait by default


class TaskCheckpoints:
    """
    A task's note, one for each map index; survives retries and clears, and after a success only what is no Clear.

    :param store: Airflow's ``task_state_store``, ``None`` where there is none (before Airflow 3.3): the note then lives
        as long as this object
    :param series: what the retries of a try have in common and a user's Clear changes; ``None``: not known
    """

    def __init__(self, store: Any, series: int | None = None) -> None:
        self._store = store
        self._series = series
        self._here: Checkpoint | None = None

    @classmethod
    def of(cls, context: Context) -> TaskCheckpoints:
        """Return the running task's note."""
        # Airflow raises the number of the last allowed try when a task is cleared, and only then.
        series = getattr(context["ti"], "max_tries", None)
        return cls(context.get("task_state_store"), series if isinstance(series, int) else None)

    @property
    def lasts(self) -> bool:
        """Whether a later try can read it."""
        return self._store is not None

    def read(self) -> Checkpoint | None:
        """Return the entry, ``None`` where there is none."""
        if self._store is None:
            return self._here
        value = self._store.get(KEY)
        if isinstance(value, Mapping) and value.get(FINISHED, self._series) != self._series:
            return None  # of a success, and its user has cleared the task since
        return Checkpoint.read(value)

    def remember(self, entry: Checkpoint | None) -> None:
        """Take in what a deferral has carried, where nothing else lasts."""
        if not self.lasts:
            self._here = entry

    def write(self, entry: Checkpoint) -> None:
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
