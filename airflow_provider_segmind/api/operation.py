"""
What an operation yields and what it receives, and the context that all operations of a connection share.

An operation is a generator. It yields a :class:`Request` to send or a :class:`Pause` to make, receives a
:class:`Response` or has a :class:`TransportFailure` thrown into it, and returns a typed value or raises a SegmindError.
So each rule of the API is written once, and a synchronous and an asynchronous driver (``hooks/transport.py``) run it.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from airflow_provider_segmind.api.models import check_request_id, parse_json
from airflow_provider_segmind.api.poll_schedule import LatencyMemory
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.api.redaction import redact

BASE_URL = "https://api.segmind.com"
HISTORY_URL = "https://api.spotprod.segmind.com/inference-request/request-history"
STORAGE_URL = "https://workflows-api.segmind.com/upload-asset"

MAX_JSON_BYTES = 10 * 1024 * 1024
MAX_JSON_SECONDS = 60.0  # for the whole exchange


class BodyReceiver(Protocol):
    """Takes the body of a response as it streams in, from ``begin`` with its headers on, and raises to refuse it."""

    def begin(self, headers: Mapping[str, str]) -> None: ...  # noqa: D102
    def write(self, chunk: bytes) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Request:
    """A request to send. Drivers never follow redirects, and add the key only for the connection's own hosts."""

    method: str
    url: str  # built from the connection; only the addresses of result files come from a response
    params: Mapping[str, str] | None = None
    json: object = None
    with_key: bool = True
    into: BodyReceiver | None = field(default=None, compare=False)  # takes the body of a 2xx instead of Response.body
    max_bytes: int = MAX_JSON_BYTES  # a body that is read into memory is truncated there
    max_seconds: float = MAX_JSON_SECONDS  # for waiting for a free connection, connecting, sending and reading
    read_timeout: float | None = None  # seconds of silence after which it fails; by default as the connection says


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait before the operation goes on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RenewKey:
    """Look the connection up once more. The outcome is whether it has another key than before, which is used then."""


@dataclass(frozen=True)
class Response:
    """A response with any HTTP status, and headers with lower-case names."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: str | None = None  # why the body is not whole; starts with "larger than" if it is too large

    @property
    def ok(self) -> bool:
        """Whether the status says success."""
        return 200 <= self.status < 300

    @cached_property
    def json(self) -> Any:
        """The parsed body; ``None`` if it is not JSON, or truncated."""
        return None if self.truncated else parse_json(self.body.decode("utf-8", "replace"))

    @property
    def object(self) -> dict[str, Any]:
        """The body's JSON object, or an empty dict if the body is something else."""
        return self.json if isinstance(self.json, dict) else {}

    @property
    def content_type(self) -> str | None:
        """The declared media type in lower case, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() or None


class TransportFailure(Exception):  # noqa: N818 - it is an event for an operation, which makes an error of it
    """
    No response came.

    :param sent: ``False`` only if the request cannot have reached the server: the name did not resolve, the connection
        was refused, the TLS handshake failed, or connecting timed out
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


T = TypeVar("T")
Step = Request | Pause | RenewKey
Operation = Generator[Step, Response | bool | None, T]


def send(request: Request) -> Operation[Response]:
    """Send a request and return its response."""
    response = yield request
    assert isinstance(response, Response), "a driver sends a Response for each Request"  # noqa: S101 - their contract
    return response


def pause(seconds: float) -> Operation[None]:
    """Wait; not at all if ``seconds`` is negative."""
    yield Pause(max(seconds, 0.0))


def renew_key() -> Operation[bool]:
    """Look the connection up once more, and return whether it has another key than before."""
    return bool((yield RenewKey()))


def counting_requests(operation: Operation[T], count: Callable[[], None]) -> Operation[T]:
    """Run an operation, and call ``count`` for each request that it sends with the key."""
    try:
        step = next(operation)
        while True:
            if isinstance(step, Request) and step.with_key:
                count()
            try:
                outcome = yield step
            except TransportFailure as failure:
                step = operation.throw(failure)
            else:
                step = operation.send(outcome)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        operation.close()


@dataclass(frozen=True)
class ApiContext:
    """What the operations of one connection share: in one process, all its jobs have one limiter and latency memory."""

    base_url: str = BASE_URL  # without a trailing slash or version
    history_url: str = HISTORY_URL
    storage_url: str = STORAGE_URL
    output_hosts: tuple[str, ...] = ()  # more hosts of result files; names or *.name
    max_result_bytes: int = 1024 * 1024 * 1024
    limiter: RateLimiter = field(default_factory=RateLimiter)
    latencies: LatencyMemory = field(default_factory=LatencyMemory)
    clock: Callable[[], float] = time.time  # deadlines outlive processes, so nothing here is monotonic
    jitter: Callable[[float, float], float] = random.uniform
    secrets: list[str] = field(default_factory=list, repr=False)  # a session replaces a rotated key in it
    account: str = ""  # from account_fingerprint

    def redact(self, text: object) -> str:
        """Make a text from outside fit for logs and errors."""
        return redact(text, self.secrets)

    # The submit's response names URLs too. They are ignored: the key must go to the connection's own hosts only.
    def request_url(self, request_id: str) -> str:
        """Return where a job's result is; its state is at ``/status`` below it."""
        return f"{self.base_url}/v2/requests/{check_request_id(request_id)}"


def account_fingerprint(base_url: str, api_key: str) -> str:
    """
    Return what tells one account from another in a checkpoint, as ``<host>:<12 hexadecimal digits>``.

    The key cannot be read from it. A rotated key changes it although the account stays the same.
    """
    parts = urlsplit(base_url)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    return f"{host}:{hashlib.sha256(f'segmind account {api_key}'.encode()).hexdigest()[:12]}"
