"""
What a flow yields and what it receives.

A flow is a generator: it yields a :class:`Send` (a request to make) or a :class:`Pause` (seconds to wait), receives
an :class:`Answer` or gets a :class:`TransportFailure` thrown in, and returns a typed value. Each rule of the API is
so written once; a synchronous and an asynchronous driver (``hooks/drivers.py``) run it, and tests feed it by hand.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from airflow_provider_segmind.api.models import check_model, check_request_id
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.api.schedule import LatencyMemory

MAX_JSON_BYTES = 10 * 1024 * 1024
"""A JSON answer larger than this is not read further."""

MAX_ANSWER_SECONDS = 60.0
"""An answer that is read into memory may take this long in all."""


class BodyReceiver(Protocol):
    """Takes a body as it streams in; raises to refuse it."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """Called once, before the first byte, with the answer's headers (names in lower case)."""

    def write(self, chunk: bytes) -> None:
        """Called for each piece of the body."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request to make. Redirects are never followed by a driver.

    :param url: where to; built from the connection, but for result files
    :param json: the body, if any
    :param with_key: whether the API key goes along (the drivers check the host besides)
    :param into: takes the body of a 2xx answer as it streams in, instead of ``Answer.body``
    :param max_bytes: a body read into memory is cut there
    :param max_seconds: how long reading such a body may take
    :param read_timeout: seconds of silence that are borne, ``None``: as the connection says
    """

    method: str
    url: str
    params: Mapping[str, str] | None = None
    json: object = None
    with_key: bool = True
    into: BodyReceiver | None = field(default=None, compare=False)
    max_bytes: int = MAX_JSON_BYTES
    max_seconds: float = MAX_ANSWER_SECONDS
    read_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait before going on."""

    seconds: float


@dataclass(frozen=True)
class Response:
    """
    What came back: any HTTP status, headers with lower-case names, the body.

    :param cut: why the body is not whole (too large, too slow), ``None`` where it is
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300

    @cached_property
    def json(self) -> Any:
        """The body's JSON, ``None`` where it is none (HTML, empty, cut short, nested beyond reason); parsed once."""
        if self.cut:
            return None
        try:
            return json.loads(self.body.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None

    @property
    def object(self) -> dict[str, Any]:
        """The body's JSON object, an empty one where it is none."""
        return self.json if isinstance(self.json, dict) else {}


class TransportFailure(Exception):  # noqa: N818 - it is what happened, not yet an error of ours
    """
    No answer came.

    :param sent: whether the request may have reached the server. ``False`` only where that is impossible:
        a name that does not resolve, a refused connection, a failed TLS handshake, a connect timeout.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


T = TypeVar("T")
Step = Request | Pause
Operation = Generator[Step, Response | None, T]


def send(request: Request) -> Operation[Response]:
    """Make a request and return its answer, typed: for flows, by ``yield from``."""
    answer = yield request
    assert answer is not None, "a driver answers a Send"  # noqa: S101 - the drivers' contract
    return answer


def pause(seconds: float) -> Operation[None]:
    """Wait."""
    yield Pause(max(seconds, 0.0))


BASE_URL = "https://api.segmind.com"
HISTORY_URL = "https://api.spotprod.segmind.com/inference-request/request-history"
STORAGE_URL = "https://workflows-api.segmind.com/upload-asset"
OUTPUT_HOSTS = ("*.segmind.com", "segmind-resources.s3.amazonaws.com")


@dataclass(frozen=True)
class ApiContext:
    """
    One connection's Segmind.

    :param base_url: without a trailing slash or version
    :param output_hosts: hosts that result files may come from, names or ``*.name``; the base URL's comes on top
    :param max_result_bytes: no result file may be larger
    :param limiter: shared by all jobs of the connection in this process
    :param latencies: likewise
    :param clock: the wall clock, epoch seconds: deadlines outlive processes, so nothing here is monotonic
    :param jitter: a random number between its two arguments
    :param secrets: strings that never appear in a text
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

    def redact(self, text: object) -> str:
        """Make a text from outside fit for logs and errors."""
        return redact(text, self.secrets)

    def model_url(self, version: str, model: str) -> str:
        """Where a job of a model is posted."""
        return f"{self.base_url}/{version}/{quote(check_model(model), safe='')}"

    def request_url(self, request_id: str) -> str:
        """Where a job's result is asked for: built here, whatever URLs an answer names."""
        return f"{self.base_url}/v2/requests/{quote(check_request_id(request_id), safe='')}"

    def record_url(self, request_id: str) -> str:
        """Where the history keeps one request."""
        return f"{self.history_url}/{quote(check_request_id(request_id), safe='')}"
