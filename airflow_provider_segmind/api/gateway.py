"""One request and what may be repeated of it: a GET always, a POST only where nothing can have been queued."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from airflow_provider_segmind.api.errors import other_hosts, refusal, submit_failure, submit_refusal, then
from airflow_provider_segmind.api.models import (
    Metrics,
    SegmindJob,
    SegmindSyncResult,
    check_payload,
    is_request_id,
    parse_number,
)
from airflow_provider_segmind.api.operation import (
    ApiContext,
    Operation,
    Request,
    Response,
    TransportFailure,
    pause,
    send,
)
from airflow_provider_segmind.api.parsing import ResponseTooLargeError, announces_terminal_state, parse_request_id
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

GET_ATTEMPTS = 5
GET_SECONDS = 60.0
"""A single GET is tried at most ``ATTEMPTS`` times within ``PATIENCE`` seconds."""

MAX_SUBMIT_WAIT = 5.0
"""A submit that would wait longer than this for its turn says so instead, and its caller can defer."""

T = TypeVar("T")


def backoff(api: ApiContext, failures: int, cap: float = 15.0) -> float:
    """Return the seconds to wait after the n-th failure in a row: exponential, full jitter, at least 0.1 s."""
    return max(api.jitter(0.0, min(cap, 0.5 * 2 ** min(failures, 10))), 0.1)


def check_rate_limit(api: ApiContext, patience: float) -> None:
    """Raise :class:`SegmindRateLimitError` where the limiter lets no request go within ``patience`` seconds."""
    now = api.clock()
    free = api.limiter.next_free(now)
    if free > now + patience:
        raise SegmindRateLimitError(
            f"Segmind's rate limit leaves no room for {free - now:.0f} s; nothing was sent.", reset_at=free
        )


def wait_for_slot(api: ApiContext, patience: float = math.inf) -> Operation[None]:
    """
    Wait until the limiter lets the next request go; a gate that closes meanwhile is waited for anew.

    :raises SegmindRateLimitError: that takes longer than ``patience`` seconds; nothing was sent
    """
    until = api.clock() + patience
    while True:
        now = api.clock()
        check_rate_limit(api, max(until - now, 0.0))
        yield from pause(api.limiter.reserve(now) - now)
        if not api.limiter.is_closed(api.clock()):
            return


def get(
    api: ApiContext,
    url: str,
    doing: str,
    read: Callable[[Response], T],
    *,
    params: Mapping[str, str] | None = None,
    request_id: str | None = None,
    attempts: int = GET_ATTEMPTS,
    patience: float | None = None,
    gateway: bool = True,
) -> Operation[T]:
    """
    GET and read an answer; transport failures, 5xx and senseless bodies are tried again, a short 429 is waited out.

    :param patience: seconds that a turn at the limiter may take, by default what is left of ``PATIENCE``
    :param gateway: whether the gateway's limiter counts this request (the history is another host)
    """
    until = api.clock() + GET_SECONDS
    failures = 0
    while True:
        try:
            if gateway:
                yield from wait_for_slot(api, patience if patience is not None else until - api.clock())
            answer = yield from send(Request("GET", url, params=params))
            if answer.ok or announces_terminal_state(answer):
                return read(answer)
            error: SegmindError = refusal(api, answer, doing, request_id=request_id, gateway=gateway)
        except TransportFailure as failure:
            error = SegmindServiceError(
                f"No answer from Segmind to {doing}: {api.redact(failure)}", request_id=request_id
            )
        except ResponseTooLargeError:
            raise
        except SegmindServiceError as senseless:
            error = senseless
        failures += 1
        wait = backoff(api, failures)
        if isinstance(error, SegmindRateLimitError):
            wait = error.reset_at - api.clock()
        if not then(error).repeat or failures >= attempts or api.clock() + wait > until:
            raise error if gateway else other_hosts(error)
        yield from pause(wait)


def submit(
    api: ApiContext,
    model: str,
    payload: Mapping[str, object],
    *,
    before: Callable[[], None] = lambda: None,
) -> Operation[SegmindJob]:
    """
    POST a job: one POST, repeated only after proof that nothing was queued.

    :param before: called immediately before each POST
    :raises SegmindRateLimitError: at once; also without a request where the gate is known to be closed
    :raises SegmindSubmitUnknownError: the job may be queued and billed
    :raises SegmindRequestError: refused
    :raises SegmindServiceError: nothing was queued, and repeating did not help
    """
    url = api.model_url("v2", model)
    body = check_payload(payload)
    until = api.clock() + GET_SECONDS
    failures = 0
    while True:
        yield from wait_for_slot(api, MAX_SUBMIT_WAIT)
        submitted_at = api.clock()
        before()
        try:
            answer = yield from send(Request("POST", url, json=body))
        except TransportFailure as failure:
            error = submit_failure(api, failure, model)
        else:
            request_id = parse_request_id(answer) if answer.ok else None
            if request_id is not None:
                return SegmindJob(request_id, model, submitted_at)
            error = submit_refusal(api, answer, model)
        failures += 1
        wait = backoff(api, failures)
        if not then(error).resubmit or failures >= GET_ATTEMPTS or api.clock() + wait > until:
            raise error
        yield from pause(wait)


UPLOAD_SECONDS = 300.0
SYNC_SECONDS = 180.0


def get_credits(api: ApiContext) -> Operation[float]:
    """Ask for the account's balance in US dollars; runs no model and costs nothing."""
    return (yield from get(api, f"{api.base_url}/v1/get-user-credits", "a look at the credits", _read_credits))


def _read_credits(answer: Response) -> float:
    credit = parse_number(answer.object.get("credits"))
    if credit is None:
        raise SegmindServiceError("Segmind answered a look at the credits without a number.", status_code=answer.status)
    return credit


def upload(api: ApiContext, data_uri: str) -> Operation[str]:
    """Store a file at Segmind (for good: it cannot be deleted there) and return its address. Not repeated."""
    try:
        answer = yield from send(
            Request("POST", api.storage_url, json={"data_urls": [data_uri]}, max_seconds=UPLOAD_SECONDS)
        )
    except TransportFailure as failure:
        raise SegmindServiceError(f"The upload to Segmind's storage broke off: {api.redact(failure)}") from None
    if not answer.ok:
        raise other_hosts(refusal(api, answer, "the upload to Segmind's storage", gateway=False))
    urls = answer.object.get("file_urls")
    if isinstance(urls, list) and urls and isinstance(urls[0], str) and urls[0].startswith(("https://", "http://")):
        return urls[0]
    raise SegmindServiceError("Segmind's storage took the upload and named no file.", status_code=answer.status)


def run_sync(api: ApiContext, model: str, payload: Mapping[str, object]) -> Operation[SegmindSyncResult]:
    """
    POST to v1, which blocks and answers with the file itself. One POST, never repeated.

    :raises SegmindSubmitUnknownError: no whole answer came, and the call may be billed
    """
    url = api.model_url("v1", model)
    body = check_payload(payload)
    yield from wait_for_slot(api, GET_SECONDS)
    try:
        answer = yield from send(
            Request(
                "POST",
                url,
                json=body,
                max_bytes=api.max_result_bytes,
                max_seconds=SYNC_SECONDS,
                read_timeout=SYNC_SECONDS,  # the answer begins when the job has ended
            )
        )
    except TransportFailure as failure:
        raise submit_failure(api, failure, model) from None
    if not answer.ok:
        raise submit_refusal(api, answer, model)
    if answer.cut or not answer.body:
        raise SegmindSubmitUnknownError(
            f"Segmind answered the v1 call to {model} without a whole file ({answer.cut or 'empty'}); it may be billed."
        )
    request_id = answer.headers.get("x-request-id")
    content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower() or None
    if content_type == "text/html":
        raise SegmindRequestError(f"Segmind answered the v1 call to {model} with a web page: check the host.")
    return SegmindSyncResult(
        content=answer.body,
        content_type=content_type,
        request_id=request_id if is_request_id(request_id) else None,
        metrics=Metrics.parse(
            {
                "inference_time": answer.headers.get("x-generation-time"),
                "cost": answer.headers.get("x-cost"),
                "remaining_credits": answer.headers.get("x-remaining-credits"),
            }
        ),
    )
