"""
What an operation yields and what it receives, and the context that all operations of a connection share.

An operation is a generator. It yields a :class:`Request` to send or a :class:`Pause` to make, receives a
:class:`Response` or has a :class:`TransportFailure` thrown into it, and returns a typed value or raises a
:class:`~airflow_provider_segmind.exceptions.SegmindError`. So each rule of the API is written once; a synchronous and
an asynchronous driver (``hooks/transport.py``) run it, and tests feed it canned responses under a fake clock.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

from airflow_provider_segmind.api.models import check_model, check_request_id
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.api.schedule import LatencyMemory

BASE_URL = "https://api.segmind.com"
HISTORY_URL = "https://api.spotprod.segmind.com/inference-request/request-history"
STORAGE_URL = "https://workflows-api.segmind.com/upload-asset"
OUTPUT_HOSTS = ("*.segmind.com", "segmind-resources.s3.amazonaws.com")

# The limits of one exchange, from waiting for a free connection to the last byte of the response.
MAX_JSON_BYTES = 10 * 1024 * 1024
"""A JSON response is read up to this size."""

MAX_JSON_SECONDS = 60.0
UPLOAD_SECONDS = 300.0
FILE_SECONDS = 900.0
"""How long the download of a result file may take."""

SYNC_SECONDS = 180.0
"""How long the synchronous call may be silent: its response begins when the job has ended."""


class BodyReceiver(Protocol):
    """Takes the body of a response as it streams in, and raises to refuse it."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """Take the headers (lower-case names) before the first byte. A repeated request calls this again."""

    def write(self, chunk: bytes) -> None:
        """Take the next piece of the body."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request to send. Drivers never follow redirects.

    :param url: built from the connection; only the addresses of result files come from a response
    :param json: the body, if any
    :param with_key: whether the API key goes along; drivers add it only for the connection's own hosts
    :param into: takes the body of a 2xx response as it streams in, instead of ``Response.body``
    :param max_bytes: a body that is read into memory is truncated there
    :param max_seconds: how long the whole exchange may take: waiting for a free connection, connecting, sending and
        reading
    :param read_timeout: seconds of silence after which the exchange fails; ``None``: as the connection says
    """

    method: str
    url: str
    params: Mapping[str, str] | None = None
    json: object = None
    with_key: bool = True
    into: BodyReceiver | None = field(default=None, compare=False)
    max_bytes: int = MAX_JSON_BYTES
    max_seconds: float = MAX_JSON_SECONDS
    read_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait before the operation goes on."""

    seconds: float


@dataclass(frozen=True)
class Response:
    """
    A response with any HTTP status.

    :param headers: with lower-case names
    :param body: empty where the request had a :class:`BodyReceiver`
    :param truncated: why the body is not whole, ``None`` where it is; starts with "larger than" where it is too large
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300

    @property
    def too_large(self) -> bool:
        """Whether the body was truncated because of its size, so that asking for the same again is pointless."""
        return self.truncated is not None and self.truncated.startswith("larger than")

    @cached_property
    def json(self) -> Any:
        """The parsed body; ``None`` where it is not JSON (HTML, empty, truncated, nested too deeply)."""
        if self.truncated:
            return None
        try:
            return json.loads(self.body.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None

    @property
    def object(self) -> dict[str, Any]:
        """The body's JSON object, or an empty dict where the body is something else."""
        return self.json if isinstance(self.json, dict) else {}

    @property
    def content_type(self) -> str | None:
        """The declared media type in lower case, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() or None


class TransportFailure(Exception):  # noqa: N818 - it is an event for an operation, which makes an error of it
    """
    No response came.

    :param sent: whether the request may have reached the server. ``False`` only where that is impossible: the name
        did not resolve, the connection was refused, the TLS handshake failed, or connecting timed out.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


T = TypeVar("T")
Step = Request | Pause
Operation = Generator[Step, Response | None, T]


def send(request: Request) -> Operation[Response]:
    """Send a request and return its response."""
    response = yield request
    assert response is not None, "a driver sends a Response for each Request"  # noqa: S101 - the drivers' contract
    return response


def pause(seconds: float) -> Operation[None]:
    """Wait; not at all where ``seconds`` is negative."""
    yield Pause(max(seconds, 0.0))


@dataclass(frozen=True)
class ApiContext:
    """
    What the operations of one connection share.

    :param base_url: without a trailing slash or version
    :param output_hosts: hosts that result files may come from, names or ``*.name``, besides Segmind's and the base
        URL's own
    :param max_result_bytes: the largest result file accepted
    :param limiter: shared by all jobs of the connection in this process
    :param latencies: likewise
    :param clock: the wall clock, in epoch seconds. Deadlines outlive processes, so nothing here is monotonic.
    :param jitter: returns a random number between its two arguments
    :param secrets: strings that never appear in a text
    :param account: from :func:`account_fingerprint`; empty where nobody needs it
    """

    base_url: str = BASE_URL
    history_url: str = HISTORY_URL
    storage_url: str = STORAGE_URL
    output_hosts: tuple[str, ...] = ()
    max_result_bytes: int = 1024 * 1024 * 1024
    limiter: RateLimiter = field(default_factory=RateLimiter)
    latencies: LatencyMemory = field(default_factory=LatencyMemory)
    clock: Callable[[], float] = time.time
    jitter: Callable[[float, float], float] = random.uniform
    secrets: tuple[str, ...] = field(default=(), repr=False)
    account: str = ""

    def redact(self, text: object) -> str:
        """Make a text from outside fit for logs and errors."""
        return redact(text, self.secrets)

    def model_url(self, version: str, model: str) -> str:
        """Return where a model's jobs are posted; ``version`` is ``v1`` or ``v2``."""
        return f"{self.base_url}/{version}/{quote(check_model(model), safe='')}"

    def request_url(self, request_id: str) -> str:
        """
        Return where a job's result is; its state is at ``/status`` below it.

        The submit's response names URLs too. They are ignored: the key must go to the connection's own hosts only.
        """
        return f"{self.base_url}/v2/requests/{quote(check_request_id(request_id), safe='')}"

    def record_url(self, request_id: str) -> str:
        """Return where the request history keeps one request."""
        return f"{self.history_url}/{quote(check_request_id(request_id), safe='')}"


def account_fingerprint(base_url: str, api_key: str) -> str:
    """
    Return what tells one account from another in a checkpoint, as ``<host>:<12 hexadecimal digits>``.

    The digits come from a SHA-256 digest, so the key cannot be read from them. A rotated key changes the fingerprint
    although the account stays the same.

    :param base_url: as in :class:`ApiContext`
    :param api_key: the connection's key
    """
    parts = urlsplit(base_url)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    return f"{host}:{hashlib.sha256(f'segmind account {api_key}'.encode()).hexdigest()[:12]}"
