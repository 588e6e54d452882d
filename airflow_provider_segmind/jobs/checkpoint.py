"""
What passes from one process to the next: the checkpoint of a paid job, and the event that resumes its task.

A task's checkpoint has four states::

    (none) -> submitting -> submitted -> delivered
       ^          |             |
       +----------+-------------+   proof that nothing was queued, or that the job FAILED or is lost

``submitting`` is written before each POST and ``submitted``, with the request id, after it. A process that dies in
between leaves ``submitting``, and the request history then tells whether the POST was accepted. ``delivered`` is
written once the result is stored. It stops a retry from paying again when the worker dies before Airflow has recorded
the success, but it does not stop a user's Clear, which means a new image.

A checkpoint that exists and cannot be read is an error, never "none": the job that it describes may be paid for.

Where a ledger is configured, checkpoints are kept there instead (``jobs/ledger.py``), by what was bought and not by who
asked for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, Protocol

from airflow_provider_segmind.api.models import (
    JobOutcome,
    Metrics,
    OutcomeStatus,
    SegmindJob,
    is_request_id,
    parse_number,
)
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindCheckpointError, SegmindError

VERSION = 1
"""The version of both formats below. A reader refuses a newer one."""

KEY = "segmind_job"
"""The key in Airflow's task state store."""

KEPT_FOR = timedelta(days=14)
"""Overrides ``[state_store] default_retention_days``, which may be shorter than the 7 days a result file is kept."""

DELIVERED_KEPT_FOR = timedelta(days=1)
"""Longer than the 24 hours that Airflow lets a retry wait by default (``[core] max_task_retry_delay``)."""

SUBMIT_AGAIN: Literal["SUBMIT"] = "SUBMIT"
"""The status of the event that resumes a rate-limited submit. No job exists yet."""


def input_digest(model: str, inputs: Mapping[str, object]) -> str:
    """Return the SHA-256 of a job's model and inputs."""
    plain = json.dumps([model, inputs], sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """
    One paid job, as plain JSON without image data, keys or signatures.

    :param input_digest: of the inputs as the DAG gives them
    :param submitted_at: epoch seconds of the POST
    :param payload_fingerprint: what finds the request in the history
    :param request_id: ``None`` while *submitting*
    :param image_identity: tells the image from one that replaces it at the same address, ``None`` where not known
    """

    model: str
    input_digest: str
    submitted_at: float
    account: str = ""
    payload_fingerprint: Mapping[str, str] = field(default_factory=dict)
    request_id: str | None = None
    image_identity: str | None = None
    image_width: int | None = None
    image_height: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"version": VERSION, "state": "submitted" if self.request_id else "submitting", **asdict(self)}

    @classmethod
    def parse(cls, value: object, unreadable: Callable[[str], SegmindCheckpointError] | None = None) -> Checkpoint:
        """
        Read what :meth:`as_json` returned; raise :class:`SegmindCheckpointError` for anything else.

        :param unreadable: makes that error of a reason; by default it is about the task's state
        """
        unreadable = unreadable or _unreadable
        if not isinstance(value, Mapping):
            raise unreadable(f"it is a {type(value).__name__}, not an object")
        if value.get("version") != VERSION:
            raise unreadable(f"its version is {value.get('version')!r}, and this provider reads version {VERSION}")
        model, digest, account = (value.get(name) for name in ("model", "input_digest", "account"))
        submitted_at, request_id = parse_number(value.get("submitted_at")), value.get("request_id")
        fingerprint = value.get("payload_fingerprint")
        if (
            not isinstance(model, str)
            or not isinstance(digest, str)
            or not isinstance(account, str)
            or not isinstance(fingerprint, Mapping)
            or submitted_at is None
            or not 0 < submitted_at < 1e11
            or not (request_id is None or is_request_id(request_id))
            or (request_id is None) != (value.get("state") == "submitting")
        ):
            raise unreadable("a field is missing or has the wrong type")
        identity = value.get("image_identity")
        width, height = value.get("image_width"), value.get("image_height")
        return cls(
            model,
            digest,
            submitted_at,
            account,
            dict(fingerprint),
            request_id,
            identity if isinstance(identity, str) else None,
            width if isinstance(width, int) else None,
            height if isinstance(height, int) else None,
        )


def _unreadable(why: str) -> SegmindCheckpointError:
    return SegmindCheckpointError(
        f"The checkpoint of this task (its state {KEY!r}) cannot be read: {why}. It may describe a job that is paid "
        "for, so nothing was submitted. Look the job up in Segmind's request history, then delete the task's state "
        f"{KEY!r} or start a new DAG run to submit a new job."
    )


class CheckpointStore(Protocol):
    """Where the checkpoint of a job is kept."""

    @property
    def durable(self) -> bool:
        """Whether a later try can read the checkpoint."""

    @property
    def how_to_forget(self) -> str:
        """What a user can do to pay for a new job instead of the one that is kept, as the end of an error."""

    def about(self, input_digest: str, image_identity: str | None, account: str) -> None:
        """
        Say which job the next calls are about.

        :param image_identity: ``None`` where the image cannot be read, empty where the job has none
        :param account: the connection's account fingerprint
        """

    def read(self) -> Checkpoint | None:
        """
        Return the checkpoint, ``None`` where there is none; raise where there may be one and it cannot be read.

        :raises SegmindSubmitPendingError: another task is submitting this job
        """

    @property
    def delivered_before(self) -> bool:
        """Whether an earlier job for the same has been stored, as far as the last read has shown."""

    def submit_ended_by(self, checkpoint: Checkpoint) -> float | None:
        """
        Return the epoch seconds by which the POST of a *submitting* checkpoint has ended.

        ``None``: with the process that wrote it, soon after it was written.
        """

    def write(self, checkpoint: Checkpoint) -> None:
        """
        Keep a checkpoint. A POST may follow only after this has returned.

        :raises SegmindSubmitPendingError: another task has written first
        """

    def remember(self, checkpoint: Checkpoint | None) -> None:
        """Take over the checkpoint that a deferral has carried."""

    def mark_delivered(self, checkpoint: Checkpoint | None) -> None:
        """Say that the result is stored; ``None``: what is kept is about another job."""

    def forget(self) -> None:
        """Delete the checkpoint of the job that was read or written last."""


class TaskCheckpoints:
    """
    The checkpoint of one task instance and map index, in Airflow's task state store.

    :param store: Airflow's ``task_state_store``; ``None`` before Airflow 3.3, which has none: the checkpoint then lives
        as long as this object, and triggers carry it through deferrals
    :param max_tries: the number of the task's last allowed try. Airflow raises it when a user clears the task and at
        no other time, which tells a Clear from a retry. ``None``: unknown
    """

    def __init__(self, store: Any, max_tries: int | None = None) -> None:
        self._store = store
        self._max_tries = max_tries
        self._in_memory: Checkpoint | None = None

    @property
    def durable(self) -> bool:
        """Whether a later try can read the checkpoint."""
        return self._store is not None

    @property
    def how_to_forget(self) -> str:
        """What a user can do to pay for a new job instead."""
        return f"start a new DAG run or delete the task's state {KEY!r}"

    def about(self, input_digest: str, image_identity: str | None, account: str) -> None:
        """Do nothing: a task instance has one checkpoint, whatever it is about."""

    @property
    def delivered_before(self) -> bool:
        """Return ``False``: other tasks are not known."""
        return False

    def submit_ended_by(self, checkpoint: Checkpoint) -> float | None:  # noqa: ARG002
        """Return ``None``: an earlier process of the same task has ended."""
        return None

    def read(self) -> Checkpoint | None:
        """Return the checkpoint, ``None`` where there is none or a user has cleared the task since its delivery."""
        if self._store is None:
            return self._in_memory
        try:
            value = self._store.get(KEY)
        except Exception as error:
            raise SegmindCheckpointError(
                f"Airflow's task state store could not be read ({type(error).__name__}: {redact(error)}). The task may "
                "have a job that is paid for, so nothing was submitted. A retry reads it again."
            ) from error
        if value is None:
            return None
        if isinstance(value, Mapping) and value.get("delivered_in", self._max_tries) != self._max_tries:
            return None
        return Checkpoint.parse(value)

    def write(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint. Chaos seam: intent_to_post, post_to_checkpoint."""
        self._in_memory = checkpoint
        if self._store is not None:
            self._store.set(KEY, checkpoint.as_json(), retention=KEPT_FOR)

    def remember(self, checkpoint: Checkpoint | None) -> None:
        """Take over the checkpoint that a deferral has carried, where no store keeps it."""
        if self._store is None and checkpoint is not None:
            self._in_memory = checkpoint

    def mark_delivered(self, checkpoint: Checkpoint | None) -> None:
        """
        Say that the result is stored. Chaos seam: stored_to_delivered.

        A process that dies before this, or before Airflow has recorded the success, is retried. The retry finds the
        checkpoint, stores the same result again and pays nothing.
        """
        if checkpoint is None:
            return  # what the store holds is about another job
        if self._store is None or self._max_tries is None:
            self.forget()
            return
        delivered = checkpoint.as_json() | {"state": "delivered", "delivered_in": self._max_tries}
        self._store.set(KEY, delivered, retention=DELIVERED_KEPT_FOR)

    def forget(self) -> None:
        """Delete the checkpoint."""
        self._in_memory = None
        if self._store is not None:
            self._store.delete(KEY)


@dataclass(frozen=True, slots=True)
class ResumeEvent:
    """
    The event with which a trigger resumes its task: plain JSON, fit for the task log that Airflow writes it to.

    :param status: how the wait ended; :data:`SUBMIT_AGAIN` where a submit waited for the rate limit
    :param submitted_at: epoch seconds, where known
    :param deadline: epoch seconds at which the submit that goes on must have succeeded
    :param checkpoint: the task's checkpoint as the trigger received it
    :param submit_waits: how often the submit has waited for the rate limit
    :param store_attempts: how often storing the result has failed, where no checkpoint lasts
    :param uploaded_url: where Segmind's storage already has the image
    """

    status: OutcomeStatus | Literal["SUBMIT"]
    request_id: str | None = None
    error: str | None = None
    metrics: Metrics = field(default_factory=Metrics)
    output_urls: tuple[str, ...] = ()
    model: str | None = None
    submitted_at: float | None = None
    deadline: float | None = None
    checkpoint: Checkpoint | None = None
    submit_waits: int = 0
    store_attempts: int = 0
    uploaded_url: str | None = None

    @classmethod
    def of(cls, outcome: JobOutcome, known: Checkpoint | SegmindJob, store_attempts: int = 0) -> ResumeEvent:
        """Return the event that says how the wait for a job ended, with what is known of the job."""
        return cls(
            outcome.status,
            outcome.request_id,
            outcome.error,
            outcome.metrics,
            outcome.output_urls,
            known.model,
            known.submitted_at,
            checkpoint=known if isinstance(known, Checkpoint) else None,
            store_attempts=store_attempts,
        )

    def outcome(self) -> JobOutcome:
        """Return how the wait ended; only for an event that is about a job."""
        return JobOutcome(str(self.request_id), OutcomeStatus(self.status), self.error, self.metrics, self.output_urls)

    def as_json(self) -> dict[str, Any]:
        """Return the event; ``output_url`` is the first of ``output_urls``."""
        return {
            "version": VERSION,
            **asdict(replace(self, checkpoint=None)),
            "status": str(self.status),
            "output_urls": list(self.output_urls),
            "output_url": self.output_urls[0] if self.output_urls else None,
            "checkpoint": self.checkpoint.as_json() if self.checkpoint else None,
        }

    @classmethod
    def parse(cls, value: object) -> ResumeEvent:
        """Read an event of this package's triggers, or of any trigger that fires the documented keys."""
        event = value if isinstance(value, Mapping) else {}
        about_job = event.get("status") in list(OutcomeStatus) and is_request_id(event.get("request_id"))
        if not (about_job or event.get("status") == SUBMIT_AGAIN) or event.get("version", VERSION) != VERSION:
            raise SegmindError(
                f"The task was resumed with an event that this version of the provider does not know: "
                f"{redact(repr(value))}. Clear the task: a job that is paid for is picked up again."
            )
        output_urls = event.get("output_urls") or [event.get("output_url")]
        checkpoint = event.get("checkpoint")
        return cls(
            OutcomeStatus(event["status"]) if about_job else SUBMIT_AGAIN,
            event["request_id"] if about_job else None,
            redact(event["error"]) if event.get("error") else None,
            Metrics.parse(event.get("metrics")),
            tuple(url for url in output_urls if isinstance(url, str)),
            event.get("model"),
            parse_number(event.get("submitted_at")),
            parse_number(event.get("deadline")),
            None if checkpoint is None else Checkpoint.parse(checkpoint),
            int(event.get("submit_waits") or 0),
            int(event.get("store_attempts") or 0),
            event.get("uploaded_url"),
        )
