"""
What a flow yields and what it receives.

A flow is a generator: it yields a :class:`Send` (a request to make) or a :class:`Pause` (seconds to wait), receives
an :class:`Answer` or gets a :class:`TransportFailure` thrown in, and returns a typed value. Each rule of the API is
so written once; a synchronous and an asynchronous driver (``hooks/drivers.py``) run it, and tests feed it by hand.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

MAX_JSON_BYTES = 10 * 1024 * 1024
"""A JSON answer larger than this is not read further."""

MAX_ANSWER_SECONDS = 60.0
"""An answer that is read into memory may take this long in all."""


class Receiver(Protocol):
    """Takes a body as it streams in; raises to refuse it."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """Called once, before the first byte, with the answer's headers (names in lower case)."""

    def write(self, chunk: bytes) -> None:
        """Called for each piece of the body."""


@dataclass(frozen=True, slots=True)
class Send:
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
    into: Receiver | None = field(default=None, compare=False)
    max_bytes: int = MAX_JSON_BYTES
    max_seconds: float = MAX_ANSWER_SECONDS
    read_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait before going on."""

    seconds: float


@dataclass(frozen=True)
class Answer:
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
Step = Send | Pause
Flow = Generator[Step, Answer | None, T]


def send(request: Send) -> Flow[Answer]:
    """Make a request and return its answer, typed: for flows, by ``yield from``."""
    answer = yield request
    assert answer is not None, "a driver answers a Send"  # noqa: S101 - the drivers' contract
    return answer


def pause(seconds: float) -> Flow[None]:
    """Wait."""
    yield Pause(max(seconds, 0.0))
