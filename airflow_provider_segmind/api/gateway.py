"""
Single requests to the gateway, and what may be repeated of them.

A GET is repeated after anything that may pass; a POST only after proof that nothing was queued, for which see
:mod:`~airflow_provider_segmind.api.errors`. Every request to the gateway waits for its slot at the rate limiter first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from airflow_provider_segmind.api.errors import as_service_error, refusal, submit_failure, submit_refusal
from airflow_provider_segmind.api.models import (
    Metrics,
    SegmindJob,
    SegmindSyncResult,
    check_payload,
    is_request_id,
    parse_number,
)
from airflow_provider_segmind.api.operation import (
    MAX_JSON_SECONDS,
    SYNC_SECONDS,
    UPLOAD_SECONDS,
    ApiContext,
    Operation,
    Request,
    Response,
    TransportFailure,
    pause,
    send,
)
from airflow_provider_segmind.api.parsing import announces_terminal_state, parse_request_id
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

GET_ATTEMPTS = 5
GET_SECONDS = 60.0
"""A GET, or a submit that was proven not to be queued, is tried at most ``GET_ATTEMPTS`` times in ``GET_SECONDS``."""

MIN_REQUEST_SECONDS = 2.0
"""No request is begun that would have less time than this."""

MIN_SUBMIT_SECONDS = 5.0
"""A POST gets at least this long, whatever the deadline: cutting it short leaves its outcome unknown."""

MAX_SUBMIT_WAIT = 5.0
"""A submit that would wait longer than this for its slot raises instead, and its caller can defer."""

T = TypeVar("T")


def backoff(api: ApiContext, failures: int, cap: float = 15.0) -> float:
    """Return the seconds to wait after the n-th failure in a row: exponential with full jitter, at least 0.1 s."""
    return max(api.jitter(0.0, min(cap, 0.5 * 2 ** min(failures, 10))), 0.1)


def check_rate_limit(api: ApiContext, patience: float) -> None:
    """
    Check that the limiter has a slot within ``patience`` seconds, without taking it.

    :raises SegmindRateLimitError: it has none
    """
    now = api.clock()
    slot = api.limiter.next_free(now)
    if slot > now + patience:
        raise _no_slot(now, slot)


def wait_for_slot(api: ApiContext, patience: float = math.inf) -> Operation[None]:
    """
    Take the limiter's next slot and wait for it; a 429 that another request meets meanwhile means a new slot.

    :param patience: seconds that the wait may take
    :raises SegmindRateLimitError: at once, where there is no slot in time; nothing was sent
    """
    latest = api.clock() + max(patience, 0.0)
    while True:
        now = api.clock()
        slot = api.limiter.reserve(now, latest)
        if slot > latest:
            raise _no_slot(now, slot)
        yield from pause(slot - now)
        if not api.limiter.is_closed(api.clock()):
            return


def _no_slot(now: float, slot: float) -> SegmindRateLimitError:
    return SegmindRateLimitError(
        f"The rate limit allows no request for another {slot - now:.0f} s; nothing was sent.", reset_at=slot
    )


def _retry_delay(api: ApiContext, error: SegmindError, failures: int, *, attempts: int, until: float) -> float | None:
    """Return the seconds until the next attempt; ``None`` where no attempt or no time is left for one."""
    now = api.clock()
    delay = error.reset_at - now if isinstance(error, SegmindRateLimitError) else backoff(api, failures)
    too_late = now + delay > until - MIN_REQUEST_SECONDS
    return None if too_late or failures >= attempts else delay


def get(
    api: ApiContext,
    url: str,
    action: str,
    read: Callable[[Response], T],
    *,
    params: Mapping[str, str] | None = None,
    request_id: str | None = None,
    attempts: int = GET_ATTEMPTS,
    until: float | None = None,
    gateway: bool = True,
) -> Operation[T]:
    """
    GET and read a response. Outages and responses that make no sense are repeated, a short 429 is waited out.

    :param action: the request in words, for errors
    :param read: parses the response; raises :class:`SegmindServiceError` where that makes no sense
    :param request_id: the request that is asked about, if any
    :param until: epoch seconds at which all of it has ended, whatever the server does; by default a minute from now
    :param gateway: whether the gateway is asked, and so the limiter; the request history is another host
    """
    until = api.clock() + GET_SECONDS if until is None else until
    for failures in itertools.count(1):
        if until - api.clock() < MIN_REQUEST_SECONDS:
            raise SegmindServiceError(f"No time is left for {action}.", request_id=request_id)
        try:
            if gateway:
                yield from wait_for_slot(api, until - MIN_REQUEST_SECONDS - api.clock())
            seconds = min(until - api.clock(), MAX_JSON_SECONDS)
            response = yield from send(Request("GET", url, params=params, max_seconds=seconds))
            if response.ok or announces_terminal_state(response):
                return read(response)
            error = refusal(api, response, action, request_id=request_id, gateway=gateway)
        except TransportFailure as failure:
            reason = api.redact(failure)
            error = SegmindServiceError(f"No response from Segmind to {action}: {reason}", request_id=request_id)
        except SegmindError as caught:
            error = caught
        delay = _retry_delay(api, error, failures, attempts=attempts, until=until) if error.policy.repeat else None
        if delay is None:
            raise error if gateway else as_service_error(error)
        yield from pause(delay)
    raise AssertionError("unreachable")


def submit(
    api: ApiContext,
    model: str,
    payload: Mapping[str, object],
    *,
    before: Callable[[], None] = lambda: None,
    until: float = math.inf,
) -> Operation[SegmindJob]:
    """
    Submit a job: one POST, repeated only after proof that nothing was queued.

    Source: Segmind's API page. ``POST /v2/<model>`` with the parameters as JSON answers ``{"request_id", "status":
    "QUEUED", ...}``; there is no idempotency key, and inputs are validated only when the job runs.

    :param model: the model's slug
    :param payload: its parameters
    :param before: called immediately before each POST; what it raises ends the submit
    :param until: epoch seconds after which no POST begins, and at which one without a response is given up, though not
        within its first five seconds; by default each POST has a minute
    :raises SegmindInputError: the model or the payload is invalid; nothing was sent
    :raises SegmindRateLimitError: at once, also without a request where the limiter has no slot soon
    :raises SegmindSubmitUnknownError: the job may be queued and billed
    :raises SegmindRequestError: refused
    :raises SegmindServiceError: nothing was queued, and repeating did not help
    """
    url = api.model_url("v2", model)
    body = check_payload(payload)
    retry_until = min(until, api.clock() + GET_SECONDS)
    for failures in itertools.count(1):
        yield from wait_for_slot(api, min(MAX_SUBMIT_WAIT, until - api.clock()))
        submitted_at = api.clock()
        before()
        seconds = min(max(until - submitted_at, MIN_SUBMIT_SECONDS), MAX_JSON_SECONDS)
        try:
            response = yield from send(Request("POST", url, json=body, max_seconds=seconds))
        except TransportFailure as failure:
            error = submit_failure(api, failure, model)
        else:
            request_id = parse_request_id(response) if response.ok else None
            if request_id is not None:
                return SegmindJob(request_id, model, submitted_at)
            error = submit_refusal(api, response, model)
        repeat = error.policy.repeat_submit
        delay = _retry_delay(api, error, failures, attempts=GET_ATTEMPTS, until=retry_until) if repeat else None
        if delay is None:
            raise error
        yield from pause(delay)
    raise AssertionError("unreachable")


def get_credits(api: ApiContext) -> Operation[float]:
    """
    Return the account's balance in US dollars. It runs no model and costs nothing.

    Source: Segmind's documentation. ``GET /v1/get-user-credits`` answers ``{"credits": <number>}``, or a 404 where the
    account has no balance record.
    """
    return (yield from get(api, f"{api.base_url}/v1/get-user-credits", "a request for the credits", _read_credits))


def _read_credits(response: Response) -> float:
    balance = parse_number(response.object.get("credits"))
    if balance is None:
        raise SegmindServiceError(
            "Segmind's response to a request for the credits has no number.", status_code=response.status
        )
    return balance


def upload(api: ApiContext, data_uri: str) -> Operation[str]:
    """
    Store a file at Segmind and return its address. It is not repeated, because a stored file cannot be deleted.

    Source: the official client 1.3.0. ``{"data_urls": [...]}`` answers ``{"file_urls": [...]}``.

    :param data_uri: the file as ``data:<media type>;base64,<data>``
    :raises SegmindServiceError: the upload failed
    """
    request = Request("POST", api.storage_url, json={"data_urls": [data_uri]}, max_seconds=UPLOAD_SECONDS)
    try:
        response = yield from send(request)
    except TransportFailure as failure:
        raise SegmindServiceError(f"The upload to Segmind's storage failed: {api.redact(failure)}") from None
    if not response.ok:
        raise as_service_error(refusal(api, response, "the upload to Segmind's storage", gateway=False))
    urls = response.object.get("file_urls")
    if isinstance(urls, list) and urls and isinstance(urls[0], str) and urls[0].startswith(("https://", "http://")):
        return urls[0]
    raise SegmindServiceError(
        "Segmind's storage accepted the upload but returned no address.", status_code=response.status
    )


def run_sync(api: ApiContext, model: str, payload: Mapping[str, object]) -> Operation[SegmindSyncResult]:
    """
    Run a job by the synchronous v1 call: one POST, never repeated, which answers with the file itself.

    Source: Segmind's API page. The accounting is in the headers ``x-request-id``, ``x-cost``, ``x-remaining-credits``
    and ``x-generation-time``.

    :param model: the model's slug
    :param payload: its parameters
    :raises SegmindSubmitUnknownError: no whole response came, and the call may be billed
    :raises SegmindRequestError: refused
    """
    url = api.model_url("v1", model)
    body = check_payload(payload)
    yield from wait_for_slot(api, GET_SECONDS)
    request = Request(
        "POST",
        url,
        json=body,
        max_bytes=api.max_result_bytes,
        max_seconds=2 * SYNC_SECONDS,
        read_timeout=SYNC_SECONDS,
    )
    try:
        response = yield from send(request)
    except TransportFailure as failure:
        raise submit_failure(api, failure, model) from None
    if not response.ok:
        raise submit_refusal(api, response, model)
    if response.truncated or not response.body:
        raise SegmindSubmitUnknownError(
            f"Segmind's response to the v1 call to {model} is not a whole file ({response.truncated or 'empty'}); the "
            "call may be billed."
        )
    if response.content_type == "text/html":
        raise SegmindRequestError(
            f"The v1 call to {model} was answered with a web page. Check the connection's host.",
            status_code=response.status,
        )
    headers = response.headers
    request_id = headers.get("x-request-id")
    return SegmindSyncResult(
        content=response.body,
        content_type=response.content_type,
        request_id=request_id if is_request_id(request_id) else None,
        metrics=Metrics.parse(
            {
                "inference_time": headers.get("x-generation-time"),
                "cost": headers.get("x-cost"),
                "remaining_credits": headers.get("x-remaining-credits"),
            }
        ),
    )
