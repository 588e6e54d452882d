"""
Single requests to Segmind, and what may be repeated of them.

What proves that nothing was queued
-----------------------------------

Segmind has no idempotency key: each POST that it accepts is a job, and is billed when the job completes. A submit may
therefore be repeated only after proof that the last one queued nothing. These are proof:

* a 4xx, 429 included: the gateway refused the request;
* a 500, 502 or 503 in the gateway's own envelope, ``{"error": "<text>"}``: the gateway answered and accepted nothing;
* a failure before the request can have left: DNS, a refused connection, a failed TLS handshake, a connect timeout.

These are not: a 504, or a 5xx in HTML, which a proxy sends while the gateway may still work on the request; a redirect;
a 2xx without a usable request id; a connection that broke or fell silent after sending. There the outcome is unknown.

A GET needs no proof: every GET may be repeated. Every request to the gateway waits for its slot at the rate limiter,
POSTs before GETs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from airflow_provider_segmind.api.models import (
    Metrics,
    SegmindJob,
    SegmindSyncResult,
    check_model,
    check_payload,
    is_request_id,
    parse_number,
)
from airflow_provider_segmind.api.operation import (
    MAX_JSON_SECONDS,
    ApiContext,
    Operation,
    Request,
    Response,
    TransportFailure,
    pause,
    renew_key,
    send,
)
from airflow_provider_segmind.api.parsing import (
    OtherHostRateLimitError,
    announces_terminal_state,
    refusal,
)
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

# A GET, or a submit that was proven not to be queued, is tried at most GET_ATTEMPTS times in GET_SECONDS.
GET_ATTEMPTS, GET_SECONDS = 5, 60.0
MIN_GET_SECONDS = 2.0  # no GET begins that would have less time
MIN_SUBMIT_SECONDS = 4.0  # for a POST, whatever the deadline: cutting it short leaves its outcome unknown
SUBMIT_SECONDS = 90.0  # for a POST: an inline image of 10 MB over a slow line takes more than a minute
MAX_SUBMIT_WAIT = 5.0  # by default a submit that would wait longer for its slot raises, so that its caller can defer
UPLOAD_SECONDS = 300.0
SYNC_SECONDS = 180.0  # of silence in the synchronous call, whose response begins when the job has ended
_SYNC_METRICS = {"inference_time": "x-generation-time", "cost": "x-cost", "remaining_credits": "x-remaining-credits"}

T = TypeVar("T")


def backoff(api: ApiContext, failures: int, cap: float = 15.0) -> float:
    """Return the seconds to wait after the n-th failure in a row: exponential with full jitter, at least 0.1 s."""
    return max(api.jitter(0.0, min(cap, 0.5 * 2 ** min(failures, 10))), 0.1)


def check_rate_limit(api: ApiContext, patience: float) -> None:
    """Raise :class:`SegmindRateLimitError` if the limiter has no slot for a submit within ``patience`` seconds."""
    now = api.clock()
    _check_slot(api.limiter.next_free(now), now, now + patience)


def _check_slot(slot: float, now: float, latest: float) -> None:
    if slot > latest:
        text = f"The rate limit allows no request for another {slot - now:.0f} s; nothing was sent."
        raise SegmindRateLimitError(text, reset_at=slot)


def wait_for_slot(api: ApiContext) -> Operation[None]:
    """Wait for a slot on behalf of a request that another process sends. It waits in line with the polls."""
    yield from _take_slot(api, math.inf)
    api.limiter.accepted(api.clock())


def _take_slot(api: ApiContext, patience: float, *, submit: bool = False) -> Operation[None]:
    """Wait for a slot, in line with the other requests; raise as soon as none is to be expected within ``patience``."""
    limiter, now = api.limiter, api.clock()
    latest = now + max(patience, 0.0)
    ticket = limiter.ticket(submit=submit)
    try:
        while (moment := limiter.take(ticket, now, latest)) is not None:
            _check_slot(moment, now, latest)
            yield from pause(moment - now)
            now = api.clock()
    finally:
        limiter.leave(ticket)


def _send(api: ApiContext, request: Request) -> Operation[Response]:
    """Send a request that has its slot to the gateway."""
    response = yield from send(request)
    if response.status != 429:
        api.limiter.accepted(api.clock())
    return response


def _pause_before_retry(api: ApiContext, error: SegmindError, failures: int, *, until: float) -> Operation[None]:
    """Pause before the next attempt, or raise the error if no time is left for one."""
    now = api.clock()
    delay = backoff(api, failures)
    if isinstance(error, SegmindRateLimitError | OtherHostRateLimitError):
        delay = error.reset_at - now
    if now + delay > until - MIN_GET_SECONDS:
        raise error
    yield from pause(delay)


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
    GET and parse a response. Outages, short rate limits and responses that make no sense are followed by a retry.

    :param action: the request in words, for errors
    :param read: parses the response, or raises :class:`SegmindServiceError`
    :param until: epoch seconds at which all of it has ended, whatever the server does; by default a minute from now
    :param gateway: whether the gateway is asked, and so the limiter
    """
    until = api.clock() + GET_SECONDS if until is None else until
    failures, key_is_renewed = 0, False
    while True:
        if until - api.clock() < MIN_GET_SECONDS:
            raise SegmindServiceError(f"No time is left for {action}.", request_id=request_id)
        try:
            if gateway:
                yield from _take_slot(api, until - MIN_GET_SECONDS - api.clock())
            seconds = min(max(until - api.clock(), 1.0), MAX_JSON_SECONDS)
            request = Request("GET", url, params=params, max_seconds=seconds)
            response = yield from _send(api, request) if gateway else send(request)
            if response.ok or announces_terminal_state(response):
                return read(response)
            if response.status == 401 and not key_is_renewed and (key_is_renewed := (yield from renew_key())):
                continue
            error = refusal(api, response, action, request_id=request_id, gateway=gateway)
        except TransportFailure as failure:
            reason = api.redact(failure)
            error = SegmindServiceError(f"No response from Segmind to {action}: {reason}", request_id=request_id)
        except SegmindError as caught:
            error = caught
        failures += 1
        if failures == attempts or not error.policy.repeat:
            raise error
        yield from _pause_before_retry(api, error, failures, until=until)


def submit(
    api: ApiContext,
    model: str,
    payload: Mapping[str, object],
    *,
    before: Callable[[], None] = lambda: None,
    until: float = math.inf,
    patience: float = MAX_SUBMIT_WAIT,
) -> Operation[SegmindJob]:
    """
    Submit a job: one POST, repeated only after proof that nothing was queued.

    :param before: called immediately before each POST; what it raises ends the submit
    :param until: epoch seconds: nothing is repeated after that, and a POST without a response is given up then, though
        not within its first four seconds; by default each POST has ``SUBMIT_SECONDS``
    :param patience: seconds for which each POST may wait for its slot, but not after ``until``
    :raises SegmindRateLimitError: at once; without sending anything if the limiter has no slot within ``patience``
    :raises SegmindSubmitUnknownError: the job may be queued and billed; whatever else is raised, nothing was queued
    """
    url = f"{api.base_url}/v2/{check_model(model)}"
    body = check_payload(payload)
    retry_until = min(until, api.clock() + GET_SECONDS)
    failures, key_is_renewed = 0, False
    while True:
        yield from _take_slot(api, min(patience, until - api.clock()), submit=True)
        submitted_at = api.clock()
        before()
        seconds = min(max(until - submitted_at, MIN_SUBMIT_SECONDS), SUBMIT_SECONDS)
        try:
            response = yield from _send(api, Request("POST", url, json=body, max_seconds=seconds))
        except TransportFailure as failure:
            error = _submit_failure(api, failure, model)
        else:
            request_id = response.object.get("request_id")
            if response.ok and is_request_id(request_id):
                return SegmindJob(request_id, model, submitted_at)
            if response.status == 401 and not key_is_renewed and (key_is_renewed := (yield from renew_key())):
                continue
            error = refusal(api, response, f"the submit to {model}", submit=True)
        failures += 1
        if failures == GET_ATTEMPTS or not error.policy.repeat_submit:
            raise error
        yield from _pause_before_retry(api, error, failures, until=retry_until)


def _submit_failure(api: ApiContext, failure: TransportFailure, model: str) -> SegmindError:
    """Return the error for a submit without a response."""
    reason = api.redact(failure)
    if failure.sent:
        return SegmindSubmitUnknownError(
            f"The submit to {model} was sent and got no response ({reason}), so the job may be queued and billed."
        )
    return SegmindServiceError(f"Segmind could not be reached, and nothing was sent: {reason}")


def get_credits(api: ApiContext) -> Operation[float]:
    """Return the account's balance in US dollars; a 404 means that the account has no balance record."""

    def read(response: Response) -> float:
        balance = parse_number(response.object.get("credits"))
        if balance is None:
            raise SegmindServiceError("Segmind's response has no number of credits.", status_code=response.status)
        return balance

    return get(api, f"{api.base_url}/v1/get-user-credits", "a request for the credits", read)


def upload(api: ApiContext, data_uri: str) -> Operation[str]:
    """
    Store a file at Segmind and return its address. It is not repeated, because a stored file cannot be deleted.

    Source for its form: the official client 1.3.0.
    """
    request = Request("POST", api.storage_url, json={"data_urls": [data_uri]}, max_seconds=UPLOAD_SECONDS)
    try:
        response = yield from send(request)
    except TransportFailure as failure:
        raise SegmindServiceError(f"The upload to Segmind's storage failed: {api.redact(failure)}") from None
    if not response.ok:
        raise refusal(api, response, "the upload to Segmind's storage", gateway=False)
    urls = response.object.get("file_urls")
    if isinstance(urls, list) and urls and isinstance(urls[0], str) and urls[0].startswith(("https://", "http://")):
        return urls[0]
    text = "Segmind's storage accepted the upload but returned no address."
    raise SegmindServiceError(text, status_code=response.status)


def run_sync(api: ApiContext, model: str, payload: Mapping[str, object]) -> Operation[SegmindSyncResult]:
    """Run a job by the synchronous v1 call: one POST, never repeated, which answers with the file itself."""
    request = Request(
        "POST",
        f"{api.base_url}/v1/{check_model(model)}",
        json=check_payload(payload),
        max_bytes=api.max_result_bytes,
        max_seconds=2 * SYNC_SECONDS,
        read_timeout=SYNC_SECONDS,
    )
    yield from _take_slot(api, GET_SECONDS, submit=True)
    try:
        response = yield from _send(api, request)
    except TransportFailure as failure:
        raise _submit_failure(api, failure, model) from None
    if not response.ok:
        raise refusal(api, response, f"the submit to {model}", submit=True)
    if response.truncated or not response.body:
        problem = f"Segmind's response to the v1 call to {model} is not a whole file ({response.truncated or 'empty'})"
        raise SegmindSubmitUnknownError(f"{problem}; the call may be billed.")
    if response.content_type == "text/html":
        text = f"The v1 call to {model} was answered with a web page. Check the connection's host."
        raise SegmindRequestError(text, status_code=response.status)
    request_id = response.headers.get("x-request-id")
    metrics = Metrics.parse({name: response.headers.get(header) for name, header in _SYNC_METRICS.items()})
    known_id = request_id if is_request_id(request_id) else None
    return SegmindSyncResult(response.body, response.content_type, known_id, metrics)
