"""
What a response means: a value, or an exception that says what to do.

Shapes vary and are only partly published, so everything recognisable is accepted. A response without what was asked for
raises :class:`SegmindServiceError`, which a GET repeats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from airflow_provider_segmind.api.learned_limit import WINDOW
from airflow_provider_segmind.api.models import (
    JobState,
    Metrics,
    SegmindOutput,
    SegmindRecord,
    SegmindResult,
    SegmindStatus,
    decode_base64,
    is_request_id,
    parse_json,
    parse_number,
    parse_timestamp,
    split_data_uri,
)
from airflow_provider_segmind.api.operation import ApiContext, Response
from airflow_provider_segmind.api.rate_limit import MAX_RESET
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindCreditsError,
    SegmindError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindModelNotFoundError,
    SegmindModerationError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

# No real response has more, and one that lists millions of things costs no time.
MAX_OUTPUTS, MAX_ROWS = 64, 10_000
_MAX_DEPTH = 4
_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f\ud800-\udfff\"'<>\\^`{|}]+", re.IGNORECASE)
_CREATED = ("model_created", "created_at", "created", "timestamp")
_CONTAINERS = ("data", "results", "items", "generations", "record", "request")
_CREDITS_WORDS = re.compile(r"credit|balance|spend|insufficient|quota|top.?up|billing", re.IGNORECASE)
# Only its text tells a block by content moderation from other failures. Source: Segmind's API page.
_MODERATION_WORDS = re.compile(
    r"\b(moderation|moderated|nsfw|content[ _]policy|safety|responsible ai|rai|flagged|prohibited)\b", re.IGNORECASE
)

T = TypeVar("T")


class ResponseTooLargeError(SegmindServiceError):
    """A response was truncated because of its size: asking for the same again is pointless, for less may help."""

    policy = replace(SegmindServiceError.policy, repeat=False)


def _malformed(response: Response, action: str) -> SegmindServiceError:
    too_large = (response.truncated or "").startswith("larger than")
    kind = ResponseTooLargeError if too_large else SegmindServiceError
    text = f"Segmind's response to {action} makes no sense (HTTP {response.status}, {_described_body(response)})."
    return kind(text, status_code=response.status)


def _described_body(response: Response) -> str:
    media_type = redact(response.content_type or "no declared type", limit=60)
    return response.truncated or f"{len(response.body)} bytes of {media_type}"


def error_text(body: Mapping[str, Any]) -> str | None:
    """Return Segmind's own words, from any of its envelopes; ``None`` if there are none."""
    for key in ("error_description", "error", "detail", "message"):
        value = body.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, dict | list) and value:
            try:
                return json.dumps(value)
            except RecursionError:
                return None
    return None


def _short_text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 255 else None


def announces_terminal_state(response: Response) -> bool:
    """
    Return whether the body names a terminal state, which wins over the HTTP status: a FAILED comes as a 422.

    It does not win if the status is about the caller, nor over a 5xx in which a proxy may be speaking of itself.
    """
    state = JobState.parse(response.object.get("status"))
    if state is None or not state.terminal or response.status in (401, 403, 429):
        return False
    return response.status < 500 or not response.object.keys().isdisjoint(("request_id", "metrics"))


def parse_status(response: Response, request_id: str) -> SegmindStatus:
    """Read a job's state."""
    body = response.object
    state = JobState.parse(body.get("status"))
    if state is None:
        raise _malformed(response, "a status request")
    return SegmindStatus(request_id, state, error_text(body), Metrics.parse(body.get("metrics")))


def parse_result(response: Response, request_id: str) -> SegmindResult:
    """Read a job's result. A body with outputs and no state counts as COMPLETED."""
    body = response.object
    outputs = _outputs(body.get("images")) or _outputs(body.get("output"))
    state = JobState.parse(body.get("status")) or (JobState.COMPLETED if outputs else None)
    if state is None:
        raise _malformed(response, "a result request")
    if state is not JobState.COMPLETED:
        outputs = ()
    return SegmindResult(request_id, state, outputs, Metrics.parse(body.get("metrics")), body)


def _outputs(value: object, depth: int = 0) -> tuple[SegmindOutput, ...]:
    return tuple(islice(_find_outputs(value, depth), MAX_OUTPUTS))


def _find_outputs(value: object, depth: int) -> Iterator[SegmindOutput]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value[:MAX_OUTPUTS]:
            yield from _find_outputs(item, depth + 1)
    elif isinstance(value, Mapping):
        yield from _outputs_in_object(value, depth)
    elif isinstance(value, str) and value.strip():
        yield from _outputs_in_text(value.strip(), depth)


def _outputs_in_object(value: Mapping[str, Any], depth: int) -> Iterator[SegmindOutput]:
    """Read one output (``{"url", "content_type"?, "file_size"?}``), or several under ``images``."""
    size = value.get("file_size")
    for key in ("url", "image", "image_url", "data", "b64_json", "images", "output"):
        for found in _find_outputs(value.get(key), depth + 1):
            yield replace(
                found,
                content_type=_short_text(value.get("content_type")) or found.content_type,
                file_size=size if type(size) is int and size > 0 else None,
            )
            if key != "images":
                return


def _outputs_in_text(text: str, depth: int) -> Iterator[SegmindOutput]:
    """Read a URL, JSON, a data URI or Base64; anything else is a text that the model wrote."""
    if _URL.fullmatch(text):
        yield SegmindOutput(url=text)
    elif text[0] in "[{" and (outputs := _outputs(parse_json(text), depth + 1)):
        yield from outputs
    elif data_uri := split_data_uri(text):
        header, encoded = data_uri
        if header.endswith(";base64") and (decoded := decode_base64(encoded)):
            yield SegmindOutput(data=decoded, content_type=header.partition(";")[0] or None)
    elif decoded := decode_base64(text, min_length=64):
        yield SegmindOutput(data=decoded)
    else:
        yield SegmindOutput(data=text.encode("utf-8", "replace"), content_type="text/plain")


def parse_rows(response: Response, *, some: bool = False) -> list[SegmindRecord]:
    """
    Read a page of the request history.

    :param some: leave out unreadable rows. By default one of them spoils the page: it may be the one that is looked for
    """
    rows = _unwrap(response.json)
    if isinstance(rows, list) and len(rows) <= MAX_ROWS:
        records = [record for record in map(_record, rows) if record is not None]
        if some or len(records) == len(rows):
            return records
    raise _malformed(response, "a search of the request history")


def parse_record(response: Response, request_id: str) -> SegmindRecord:
    """Read the record of one request."""
    body = _unwrap(response.json)
    rows = body[:MAX_OUTPUTS] if isinstance(body, list) else [body]
    records = [record for record in map(_record, rows) if record is not None and record.request_id == request_id]
    if not records:
        raise _malformed(response, "a look-up in the request history")
    return merge_rows(records)


def merge_rows(records: Sequence[SegmindRecord]) -> SegmindRecord:
    """Make one record of the rows of one request: a row for each output, which all name the cost of the request."""
    urls = dict.fromkeys(url for record in records for url in record.output_urls)
    return replace(
        records[0],
        state=_first(record.state for record in records),
        output_urls=tuple(urls),
        created_at=_first(record.created_at for record in records),
        cost=_first(record.cost for record in records),
    )


def _unwrap(body: object) -> object:
    """Take rows out of their container, which may stand in another: ``{"data": {"results": [...]}}``."""
    for _ in range(2):
        if isinstance(body, dict) and "request_id" not in body:
            body = next((body[key] for key in _CONTAINERS if isinstance(body.get(key), list | dict)), None)
    return body


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _record(row: object) -> SegmindRecord | None:
    if not isinstance(row, dict) or not is_request_id(row.get("request_id")):
        return None
    state = JobState.parse(row.get("model_status", row.get("status")))
    body, url = row.get("request_body"), row.get("generation_url")
    if isinstance(body, str):
        body = parse_json(body)
    return SegmindRecord(
        request_id=row["request_id"],
        model=_short_text(row.get("model_name")),
        state=state if state is not None and state.terminal else None,
        output_urls=(url,) if isinstance(url, str) and _URL.fullmatch(url) else (),
        created_at=_first(parse_timestamp(row.get(key)) for key in _CREATED),
        cost=parse_number(row.get("credits_deduction")),
        error=error_text(row),
        request_body=body if isinstance(body, dict) else None,
    )


class OtherHostRateLimitError(SegmindServiceError):
    """A 429 of a host other than the gateway: to callers an outage, because the gateway's limit is not used up."""

    def __init__(self, message: str, *, reset_at: float, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id, status_code=429)
        self.reset_at = reset_at


class ResponseKind(NamedTuple):
    """A kind of response, in the words of docs/reliability.md, and its error on a submit and on any other request."""

    what: str
    statuses: Collection[int]
    submit: type[SegmindError]
    other: type[SegmindError]
    accepts: Callable[[dict[str, Any]], bool] = lambda json_object: True  # noqa: ARG005


# What a response that is not a plain success means; the first row that matches counts. Where no response came, a submit
# that may have been sent counts as the last row, and one that cannot have been sent as a SegmindServiceError; so does
# any other request.
ANSWERS = (
    ResponseKind("401, 403", (401, 403), SegmindAuthError, SegmindAuthError),
    ResponseKind("404 in JSON", (404,), SegmindModelNotFoundError, SegmindJobExpiredError, bool),
    # A proxy's own page says nothing about a job, and a job that is wrongly believed lost is paid for again.
    ResponseKind("any other 404", (404,), SegmindModelNotFoundError, SegmindServiceError),
    ResponseKind("408, 425", (408, 425), SegmindServiceError, SegmindServiceError),
    ResponseKind("410", (410,), SegmindModelNotFoundError, SegmindRequestError),
    ResponseKind("429", (429,), SegmindRateLimitError, SegmindRateLimitError),
    ResponseKind("400, 405, 406, any other 4xx", range(400, 500), SegmindRequestError, SegmindRequestError),
    ResponseKind(
        "500, 502, 503 in the gateway's own JSON",
        (500, 502, 503),
        SegmindServiceError,
        SegmindServiceError,
        lambda body: isinstance(body.get("error"), str),
    ),
    ResponseKind(
        "504, any other 5xx, 3xx, an unusable 2xx (no valid request id, HTML, empty, malformed)",
        range(1000),
        SegmindSubmitUnknownError,
        SegmindServiceError,
    ),
)


def error_class(response: Response, *, submit: bool = False) -> type[SegmindError]:
    """Return the error that a response stands for, on a submit or on any other request."""
    row = next(row for row in ANSWERS if response.status in row.statuses and row.accepts(response.object))
    return row.submit if submit else row.other


def reset_at(headers: Mapping[str, str], now: float) -> float:
    """
    Return the epoch second at which the limit of a 429 resets, at least a second and at most an hour from now.

    The format of ``x-rate-limit-reset-at-utc`` is not published, so every likely one is read, and ``Retry-After`` too.
    Without a readable value it is a minute from now, since Segmind counts requests a minute.
    """
    for name in ("x-rate-limit-reset-at-utc", "retry-after"):
        number = parse_number(headers.get(name))
        # A number too small for an epoch second is a delay.
        is_delay = number is not None and 0 <= number <= 1e8
        moment = now + number if number is not None and is_delay else parse_timestamp(headers.get(name))
        if moment is not None:
            return min(max(moment, now + 1.0), now + MAX_RESET)
    return now + WINDOW


def refusal(
    api: ApiContext,
    response: Response,
    action: str,
    *,
    submit: bool = False,
    request_id: str | None = None,
    gateway: bool = True,
) -> SegmindError:
    """
    Return the error for a response that is not a success.

    :param action: the request in words
    :param gateway: whether the gateway responded; only its 429 holds back the connection's other requests
    """
    kind, status, words = error_class(response, submit=submit), response.status, _words(api, response)
    verb, fix = "could not serve", ""
    if kind is SegmindRateLimitError:
        now = api.clock()
        moment = reset_at(response.headers, now)
        text = f"The rate limit is used up (HTTP 429 on {action}) and resets in {moment - now:.0f} s."
        if not gateway:
            return OtherHostRateLimitError(text, reset_at=moment, request_id=request_id)
        api.limiter.refused(now, moment)
        text += " Set 'requests_per_minute' in the connection's extra to stay below it."
        return SegmindRateLimitError(text, reset_at=moment, request_id=request_id)
    if kind is SegmindJobExpiredError and request_id is None:
        kind = SegmindRequestError
    elif kind is SegmindJobExpiredError:
        fix = f" It keeps the record of request {request_id} for one hour; its request history keeps it longer."
    elif kind is SegmindSubmitUnknownError:
        fix = " The response has no request id, so the job may be queued and billed."
    elif kind is SegmindAuthError:
        fix = " Check the password (the API key) of the connection, and what the account may use."
    elif kind is SegmindModelNotFoundError:
        fix = " Check `model`: there is no such model, or it is retired."
    elif status == 406 and _CREDITS_WORDS.search(words):
        kind, fix = SegmindCreditsError, " Add credits, or raise the team's spend limit."
    if issubclass(kind, SegmindRequestError):
        verb = "refused"
    elif 300 <= status < 400:
        words = "it redirects elsewhere, which is not followed. Check the connection's host."
    return kind(f"Segmind {verb} {action} (HTTP {status}): {words}{fix}", status_code=status, request_id=request_id)


def _words(api: ApiContext, response: Response) -> str:
    """Return Segmind's own words as a sentence, or what came in their place."""
    words = error_text(response.object) or f"the response has no message ({_described_body(response)})"
    words = api.redact(words)
    return words if words.endswith((".", "!", "?")) else f"{words}."


def job_failure(api: ApiContext, request_id: str, detail: str | None) -> SegmindJobFailedError:
    """Return the error for a job that FAILED, with Segmind's own words in ``detail``."""
    words = api.redact(detail or "no reason given")
    kind = SegmindModerationError if _MODERATION_WORDS.search(words) else SegmindJobFailedError
    text = f"Segmind's job {request_id} failed: {words} (a failed job is not billed)"
    return kind(text, detail=words, request_id=request_id)
