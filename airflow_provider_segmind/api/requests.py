"""One request and what may be repeated of it: a GET always, a POST only where nothing can have been queued."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from airflow_provider_segmind.api.errors import other_hosts, refusal, submit_failure, submit_refusal
from airflow_provider_segmind.api.flow import Answer, Flow, Send, TransportFailure, pause, send
from airflow_provider_segmind.api.inputs import check_payload
from airflow_provider_segmind.api.outcomes import then
from airflow_provider_segmind.api.responses import AnswerTooLargeError, announces_end, read_request_id
from airflow_provider_segmind.api.service import Service
from airflow_provider_segmind.api.values import SegmindJob
from airflow_provider_segmind.exceptions import SegmindError, SegmindRateLimitError, SegmindServiceError

ATTEMPTS = 5
PATIENCE = 60.0
"""A single GET is tried at most ``ATTEMPTS`` times within ``PATIENCE`` seconds."""

SHORT_WAIT = 5.0
"""A submit that would wait longer than this for its turn says so instead, and its caller can defer."""

T = TypeVar("T")


def backoff(service: Service, failures: int, cap: float = 15.0) -> float:
    """Return the seconds to wait after the n-th failure in a row: exponential, full jitter, at least 0.1 s."""
    return max(service.jitter(0.0, min(cap, 0.5 * 2 ** min(failures, 10))), 0.1)


def check_room(service: Service, patience: float) -> None:
    """Raise :class:`SegmindRateLimitError` where the limiter lets no request go within ``patience`` seconds."""
    now = service.clock()
    free = service.limiter.next_free(now)
    if free > now + patience:
        raise SegmindRateLimitError(
            f"Segmind's rate limit leaves no room for {free - now:.0f} s; nothing was sent.", reset_at=free
        )


def turn(service: Service, patience: float = math.inf) -> Flow[None]:
    """
    Wait until the limiter lets the next request go; a gate that closes meanwhile is waited for anew.

    :raises SegmindRateLimitError: that takes longer than ``patience`` seconds; nothing was sent
    """
    until = service.clock() + patience
    while True:
        now = service.clock()
        check_room(service, max(until - now, 0.0))
        yield from pause(service.limiter.reserve(now) - now)
        if not service.limiter.is_closed(service.clock()):
            return


def get(
    service: Service,
    url: str,
    doing: str,
    read: Callable[[Answer], T],
    *,
    params: Mapping[str, str] | None = None,
    request_id: str | None = None,
    attempts: int = ATTEMPTS,
    patience: float | None = None,
    gateway: bool = True,
) -> Flow[T]:
    """
    GET and read an answer; transport failures, 5xx and senseless bodies are tried again, a short 429 is waited out.

    :param patience: seconds that a turn at the limiter may take, by default what is left of ``PATIENCE``
    :param gateway: whether the gateway's limiter counts this request (the history is another host)
    """
    until = service.clock() + PATIENCE
    failures = 0
    while True:
        try:
            if gateway:
                yield from turn(service, patience if patience is not None else until - service.clock())
            answer = yield from send(Send("GET", url, params=params))
            if answer.ok or announces_end(answer):
                return read(answer)
            error: SegmindError = refusal(service, answer, doing, request_id=request_id, gateway=gateway)
        except TransportFailure as failure:
            error = SegmindServiceError(
                f"No answer from Segmind to {doing}: {service.clean(failure)}", request_id=request_id
            )
        except AnswerTooLargeError:
            raise
        except SegmindServiceError as senseless:
            error = senseless
        failures += 1
        wait = backoff(service, failures)
        if isinstance(error, SegmindRateLimitError):
            wait = error.reset_at - service.clock()
        if not then(error).repeat or failures >= attempts or service.clock() + wait > until:
            raise error if gateway else other_hosts(error)
        yield from pause(wait)


def submit(
    service: Service,
    model: str,
    payload: Mapping[str, object],
    *,
    before: Callable[[], None] = lambda: None,
) -> Flow[SegmindJob]:
    """
    POST a job: one POST, repeated only after proof that nothing was queued.

    :param before: called immediately before each POST
    :raises SegmindRateLimitError: at once; also without a request where the gate is known to be closed
    :raises SegmindSubmitUnknownError: the job may be queued and billed
    :raises SegmindRequestError: refused
    :raises SegmindServiceError: nothing was queued, and repeating did not help
    """
    url = service.model_url("v2", model)
    body = check_payload(payload)
    until = service.clock() + PATIENCE
    failures = 0
    while True:
        yield from turn(service, SHORT_WAIT)
        submitted_at = service.clock()
        before()
        try:
            answer = yield from send(Send("POST", url, json=body))
        except TransportFailure as failure:
            error = submit_failure(service, failure, model)
        else:
            request_id = read_request_id(answer) if answer.ok else None
            if request_id is not None:
                return SegmindJob(request_id, model, submitted_at)
            error = submit_refusal(service, answer, model)
        failures += 1
        wait = backoff(service, failures)
        if not then(error).resubmit or failures >= ATTEMPTS or service.clock() + wait > until:
            raise error
        yield from pause(wait)
