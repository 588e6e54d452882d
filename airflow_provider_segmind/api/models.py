"""
The values of the API, parsed once at the border and then passed on, and the checks of what a caller gives.

Each ``check_`` function returns the value or raises :class:`SegmindInputError`, which names it and the fix.
"""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Literal, TypeGuard, get_args

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError

DEFAULT_TIMEOUT = 600.0  # seconds, as in the official client 1.3.0
MAX_TIMEOUT = 7 * 86_400
MAX_DAYS_AHEAD = 8  # deadlines are at most a week ahead; a later moment is most likely given in milliseconds

OnUnknownSubmit = Literal["reconcile", "fail", "resubmit"]
Watch = Literal["status", "history"]


class JobState(StrEnum):
    """The state of a job. A state that Segmind adds one day counts as ``PROCESSING``."""

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
        """Read Segmind's word for a state; ``None`` if the value is not a word."""
        if not isinstance(word, str) or not word.strip():
            return None
        try:
            return cls(word.strip().upper())
        except ValueError:
            return cls.PROCESSING


def parse_json(text: str) -> Any:
    """Parse JSON; ``None`` if the text is something else, or nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def parse_number(value: object) -> float | None:
    """Read a finite number, also from text; ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_timestamp(value: object) -> float | None:
    """Read ISO 8601 (UTC if it has no zone), an HTTP date, epoch seconds or milliseconds as epoch seconds."""
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


def split_data_uri(text: str) -> tuple[str, str] | None:
    """Return the two sides of a data URI's comma (``image/png;base64`` and the data); ``None`` for any other text."""
    if text[:5].lower() != "data:" or "," not in text:
        return None
    header, _, data = text[5:].partition(",")
    return header.strip().lower(), data


def decode_base64(text: str, *, min_length: int = 0, cut_short: bool = False) -> bytes | None:
    """
    Return what a Base64 string holds; ``None`` if it is something else, or empty. Whitespace is ignored.

    :param min_length: characters below which a text is not taken for Base64: any short word would be
    :param cut_short: accept a string whose end was cut off, and an ellipsis in its place
    """
    characters = "".join(text.split())
    if len(characters) < min_length:
        return None
    if cut_short:
        characters = characters.rstrip(".…=")
        if len(characters) % 4 == 1:  # 6 bits of a byte
            characters = characters[:-1]
        characters += "=" * (-len(characters) % 4)
    try:
        return base64.b64decode(characters, validate=True) or None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a job took, in seconds, and cost, in US dollars. Each field is ``None`` if Segmind did not say."""

    inference_time: float | None = None
    queue_time: float | None = None
    total_time: float | None = None
    cost: float | None = None  # absent for a failed job
    remaining_credits: float | None = None  # on the account

    @classmethod
    def parse(cls, value: object) -> Metrics:
        """Read the ``metrics`` of a response or an event, whatever is in it."""
        if not isinstance(value, Mapping):
            return cls()
        return cls(**{f.name: parse_number(value.get(f.name)) for f in fields(cls)})

    def as_dict(self) -> dict[str, float | None]:
        """Return plain JSON, for XCom and events."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SegmindJob:
    """A job that Segmind has accepted, at ``submitted_at`` (epoch seconds). It is billed when it completes."""

    request_id: str
    model: str
    submitted_at: float


@dataclass(frozen=True, slots=True)
class SegmindStatus:
    """The state of a job, with Segmind's own words in ``error`` if it has failed."""

    request_id: str
    state: JobState
    error: str | None = None
    metrics: Metrics = field(default_factory=Metrics)


@dataclass(frozen=True, slots=True)
class SegmindOutput:
    """One output of a job: a file at ``url`` or inline ``data``, with its media type and bytes as far as declared."""

    url: str | None = None
    data: bytes | None = field(default=None, repr=False)
    content_type: str | None = None
    file_size: int | None = None


@dataclass(frozen=True, slots=True)
class SegmindResult:
    """The result of a job: ``outputs`` in Segmind's order, none while it still runs, and the ``raw`` response."""

    request_id: str
    status: JobState
    outputs: tuple[SegmindOutput, ...] = ()
    metrics: Metrics = field(default_factory=Metrics)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def output_url(self) -> str | None:
        """The first output's address, ``None`` if there is no output or it came inline."""
        return self.outputs[0].url if self.outputs else None


@dataclass(frozen=True, slots=True)
class SegmindSyncResult:
    """The response of the synchronous v1 call: the file itself, and what the response's headers say of it."""

    content: bytes = field(repr=False)
    content_type: str | None
    request_id: str | None
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class SegmindRecord:
    """
    What the request history knows of one request. Each field is ``None`` if the history does not say.

    :param state: COMPLETED or FAILED, ``None`` while the job is pending
    :param output_urls: the outputs' addresses, in the history's order; a search returns a record for each
    :param created_at: epoch seconds
    :param cost: US dollars for the whole request, however many outputs it has
    :param error: Segmind's own words if the job has failed
    :param request_body: the inputs as they were sent
    """

    request_id: str
    model: str | None
    state: JobState | None
    output_urls: tuple[str, ...] = field(default=(), repr=False)
    created_at: float | None = None
    cost: float | None = None
    error: str | None = None
    request_body: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def output_url(self) -> str | None:
        """The first output's address, if there is one."""
        return self.output_urls[0] if self.output_urls else None

    def as_result(self) -> SegmindResult:
        """Return the result of a completed job, as far as the history knows it: the outputs' addresses and the cost."""
        outputs = tuple(SegmindOutput(url=url) for url in self.output_urls)
        return SegmindResult(self.request_id, JobState.COMPLETED, outputs, Metrics(cost=self.cost))


@dataclass(frozen=True, slots=True)
class SegmindFile:
    """A result file that was downloaded and checked; ``width`` and ``height`` are ``None`` if it is not an image."""

    size: int  # bytes
    sha256: str  # hexadecimal
    content_type: str  # as the file's own signature says, or as declared if it has no known one
    width: int | None = None  # pixels
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
    """How a wait ended."""

    request_id: str
    status: OutcomeStatus
    error: str | None = None  # Segmind's own words for a FAILED, else what went wrong
    metrics: Metrics = field(default_factory=Metrics)
    output_urls: tuple[str, ...] = ()  # the outputs' public addresses, in order; see download.public_outputs
    result: SegmindResult | None = field(default=None, repr=False)  # if it was looked up; it stays in this process

    @property
    def output_url(self) -> str | None:
        """The first output's public address; ``None`` if it came inline, is signed, or was not looked up."""
        return self.output_urls[0] if self.output_urls else None


_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def _invalid(name: str, value: object, advice: str) -> SegmindInputError:
    return SegmindInputError(f"Invalid {name} {redact(repr(value), limit=80)}. {advice}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_model(model: object) -> str:
    """Return a model's slug, which may stand in a path."""
    if isinstance(model, str) and _MODEL.fullmatch(model) and ".." not in model:
        return model
    advice = "Use the slug from the model's page, such as 'bria-erase-foreground' (letters, digits, '.', '_' and '-')."
    raise _invalid("model", model, advice)


def is_request_id(value: object) -> TypeGuard[str]:
    """Return whether a value is a request id, which may stand in a path."""
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


def check_request_id(request_id: object) -> str:
    """Return a request id, which may stand in a path."""
    if is_request_id(request_id):
        return request_id
    raise _invalid("request_id", request_id, "Use the id that a submit returned.")


def check_timeout(timeout: object, name: str = "timeout") -> float:
    """Return a duration, given in seconds or as a :class:`~datetime.timedelta`, in seconds."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if _is_number(seconds) and 0 < seconds <= MAX_TIMEOUT:
        return float(seconds)
    raise _invalid(name, timeout, "Use a timedelta or a number of seconds above 0, at most a week (604800).")


def check_moment(moment: object, name: str) -> float:
    """Return a moment in epoch seconds."""
    if _is_number(moment) and 0 <= moment <= time.time() + MAX_DAYS_AHEAD * 86_400:
        return float(moment)
    raise _invalid(name, moment, f"Use epoch seconds, as from time.time(), at most {MAX_DAYS_AHEAD} days ahead.")


def check_whole(name: str, value: object, lowest: int, highest: int) -> int:
    """Return a whole number in a range."""
    if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
        return value
    raise _invalid(name, value, f"Use a whole number from {lowest} to {highest}.")


def check_payload(payload: object) -> dict[str, Any]:
    """Return a job's parameters, which are a JSON object."""
    reason = "It is not a dict with text keys"
    try:
        if isinstance(payload, Mapping) and all(isinstance(key, str) for key in payload):
            parameters = dict(payload)
            json.dumps(parameters, allow_nan=False, ensure_ascii=False).encode()
            return parameters
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"It cannot be written as JSON ({redact(error, limit=120)})"
    raise _invalid("payload", payload, f"{reason}. Use the model's parameters, such as {{'prompt': '...'}}.")


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuse a value that is not one of a ``Literal``'s choices."""
    allowed = get_args(choices)
    if value not in allowed:
        raise _invalid(name, value, f"Use one of {', '.join(map(repr, allowed))}.")
