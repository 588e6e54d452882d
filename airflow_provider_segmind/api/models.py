"""The values of the API: what an answer becomes, once, at the border."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Literal, get_args

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError

__all__ = [
    "JobOutcome",
    "JobState",
    "Metrics",
    "OutcomeStatus",
    "SegmindFile",
    "SegmindJob",
    "SegmindOutput",
    "SegmindRecord",
    "SegmindResult",
    "SegmindStatus",
    "SegmindSyncResult",
]


class JobState(StrEnum):
    """Where a job stands. A word that Segmind adds one day counts as ``PROCESSING``."""

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self in (JobState.COMPLETED, JobState.FAILED)

    @classmethod
    def parse(cls, word: object) -> JobState | None:
        """Read a service's word; ``None`` where it is no word at all."""
        if not isinstance(word, str) or not word.strip():
            return None
        try:
            return cls(word.strip().upper())
        except ValueError:
            return cls.PROCESSING


def parse_number(value: object) -> float | None:
    """Read a finite number, also one written as text; ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_timestamp(value: object) -> float | None:
    """
    Read a moment as epoch seconds; ``None`` for anything else.

    :param value: ISO 8601 (without a zone: UTC), an HTTP date, epoch seconds or milliseconds, also as text
    """
    number = parse_number(value)
    if number is not None:
        seconds = number / 1000 if number > 1e11 else number
        return seconds if 1e8 < seconds < 1e11 else None
    if not isinstance(value, str):
        return None
    try:
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            moment = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, IndexError, TypeError, OverflowError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class Metrics:
    """
    What a job took and cost; each may be missing.

    :param inference_time: seconds of computing
    :param queue_time: seconds in Segmind's queue
    :param total_time: seconds in all
    :param cost: US dollars; absent for a failed job
    :param remaining_credits: US dollars left on the account
    """

    inference_time: float | None = None
    queue_time: float | None = None
    total_time: float | None = None
    cost: float | None = None
    remaining_credits: float | None = None

    @classmethod
    def parse(cls, value: object) -> Metrics:
        """Read ``metrics`` of an answer or an event, whatever is in it."""
        if not isinstance(value, Mapping):
            return cls()
        return cls(**{f.name: parse_number(value.get(f.name)) for f in fields(cls)})

    def as_dict(self) -> dict[str, float | None]:
        """Return plain JSON, for XCom and events."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SegmindJob:
    """
    A job that Segmind has accepted: from here on it is paid for, if it completes.

    :param submitted_at: epoch seconds
    """

    request_id: str
    model: str
    submitted_at: float


@dataclass(frozen=True, slots=True)
class SegmindStatus:
    """A job's state; ``error`` holds the service's words where it FAILED."""

    request_id: str
    state: JobState
    error: str | None = None
    metrics: Metrics = field(default_factory=Metrics)


@dataclass(frozen=True, slots=True)
class SegmindOutput:
    """
    One output: a file at ``url``, or ``data`` that came inline.

    :param content_type: the declared media type, if any
    :param file_size: the declared size in bytes, if any
    """

    url: str | None = None
    data: bytes | None = field(default=None, repr=False)
    content_type: str | None = None
    file_name: str | None = None
    file_size: int | None = None


@dataclass(frozen=True, slots=True)
class SegmindResult:
    """
    What a job gave.

    :param outputs: its outputs, in order; empty while it still runs
    :param output_url: the first output's address, ``None`` where it came inline
    :param raw: the service's answer, as it came
    """

    request_id: str
    status: JobState
    outputs: tuple[SegmindOutput, ...] = ()
    metrics: Metrics = field(default_factory=Metrics)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def output_url(self) -> str | None:
        """The first output's address, ``None`` where it came inline or there is none."""
        return self.outputs[0].url if self.outputs else None


@dataclass(frozen=True, slots=True)
class SegmindSyncResult:
    """The answer of the synchronous v1 call: the file itself, accounting from its headers."""

    content: bytes = field(repr=False)
    content_type: str | None
    request_id: str | None
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class SegmindRecord:
    """
    A row of the request history.

    :param state: ``None`` while pending
    :param created_at: epoch seconds, ``None`` where the row does not say
    :param request_body: the inputs as sent, ``None`` where the row has none
    """

    request_id: str
    model: str | None
    state: JobState | None
    output_url: str | None = field(default=None, repr=False)
    created_at: float | None = None
    cost: float | None = None
    error: str | None = None
    request_body: Mapping[str, Any] | None = field(default=None, repr=False)

    def as_result(self) -> SegmindResult:
        """Return the result that it tells of: the file's address, and what it cost."""
        outputs = (SegmindOutput(url=self.output_url),) if self.output_url else ()
        return SegmindResult(self.request_id, JobState.COMPLETED, outputs, Metrics(cost=self.cost))


@dataclass(frozen=True, slots=True)
class SegmindFile:
    """
    A result file that was fetched and checked.

    :param size: bytes
    :param sha256: hexadecimal
    :param content_type: from the file's own signature where it has a known one, else as declared
    :param width: pixels, ``None`` where it is no image
    :param height: pixels, ``None`` where it is no image
    """

    size: int
    sha256: str
    content_type: str
    width: int | None = None
    height: int | None = None


class OutcomeStatus(StrEnum):
    """How a wait ended, as a trigger's event says it."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    EXPIRED = "EXPIRED"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """
    How a wait ended.

    :param output_url: the file's public address; ``None`` where the result is inline, carries a signature, or could
        not be asked for
    :param result: the result where it was asked for; stays in the process
    """

    request_id: str
    status: OutcomeStatus
    error: str | None = None
    metrics: Metrics = field(default_factory=Metrics)
    output_url: str | None = None
    result: SegmindResult | None = field(default=None, repr=False)

    def as_event(self) -> dict[str, Any]:
        """Return the trigger's event: plain JSON without key, Base64 or signature."""
        return {
            "request_id": self.request_id,
            "status": self.status.value,
            "error": self.error,
            "metrics": self.metrics.as_dict(),
            "output_url": self.output_url,
        }


OnUnknownSubmit = Literal["reconcile", "fail", "resubmit"]

DEFAULT_TIMEOUT = 600.0
"""Seconds that a wait takes at most by default: what the official client waits."""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def check_model(model: object) -> str:
    """Return the model's name; raise :class:`SegmindInputError` where it could not stand in a path."""
    if not isinstance(model, str) or not _MODEL.fullmatch(model) or ".." in model:
        raise SegmindInputError(
            f"model={redact(repr(model), limit=80)} is no model's name: give the slug from the model's page, "
            "such as 'bria-erase-foreground' (letters, digits, '.', '_', '-')."
        )
    return model


def is_request_id(value: object) -> bool:
    """Whether a value from outside may stand in a path."""
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


def check_request_id(request_id: object) -> str:
    """Return the id; raise :class:`SegmindInputError` where it could not stand in a path."""
    if not is_request_id(request_id):
        raise SegmindInputError(
            f"request_id={redact(repr(request_id), limit=80)} is no request id of Segmind's: "
            "give the id that a submit returned."
        )
    return str(request_id)


def check_timeout(timeout: object, name: str = "timeout") -> float:
    """Return a number of seconds above 0, at most a week; raise :class:`SegmindInputError` for anything else."""
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and 0 < timeout <= 7 * 86_400:
        return float(timeout)
    raise SegmindInputError(f"{name}={timeout!r}: give a number of seconds above 0, at most a week (604800).")


def check_payload(payload: object) -> dict[str, Any]:
    """Return a job's parameters as they are sent; raise :class:`SegmindInputError` where they are no JSON object."""
    try:
        if isinstance(payload, Mapping) and all(isinstance(key, str) for key in payload):
            sent = dict(payload)
            json.dumps(sent, allow_nan=False, ensure_ascii=False).encode()
            return sent
        why = "no dict of the model's parameters"
    except (TypeError, ValueError, RecursionError) as error:
        why = f"no JSON ({error})"
    raise SegmindInputError(
        f"payload={redact(repr(payload), limit=80)} is {redact(why, limit=120)}: give one such as {{'prompt': '...'}}."
    )


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise :class:`SegmindInputError` for a value that is none of a ``Literal``'s choices."""
    allowed = get_args(choices)
    if value not in allowed:
        raise SegmindInputError(f"{name}={value!r}: choose one of {', '.join(map(repr, allowed))}.")
