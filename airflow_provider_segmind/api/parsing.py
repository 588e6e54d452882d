"""Answers, read once: liberal in shape, strict in type. What makes no sense raises :class:`SegmindServiceError`."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from airflow_provider_segmind.api.models import (
    JobState,
    Metrics,
    SegmindOutput,
    SegmindRecord,
    SegmindResult,
    SegmindStatus,
    is_request_id,
    parse_number,
    parse_timestamp,
)
from airflow_provider_segmind.api.operation import Response
from airflow_provider_segmind.exceptions import SegmindServiceError

_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f\ud800-\udfff\"'<>\\^`{|}]+", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{64,}={0,2}")
MAX_OUTPUTS = 64
MAX_ROWS = 10_000
"""More than any answer has: one that lists millions of things costs no time."""

_CREATED = ("model_created", "created_at", "created", "timestamp")
_ROW_CONTAINERS = ("data", "results", "items", "generations")


def error_text(body: Mapping[str, Any]) -> str | None:
    """Return the service's words, from either of its envelopes; ``None`` where it has none."""
    for key in ("error_description", "error", "detail", "message"):
        said = body.get(key)
        if isinstance(said, str) and said.strip():
            return said
        if isinstance(said, dict | list) and said:
            try:
                return json.dumps(said)
            except (ValueError, RecursionError):
                return None
    return None


class ResponseTooLargeError(SegmindServiceError):
    """An answer was cut for its size: asking for the same again is of no use, asking for less may be."""


def _malformed(answer: Response, what: str) -> SegmindServiceError:
    why = answer.cut or f"{len(answer.body)} bytes of {answer.headers.get('content-type', 'no declared type')[:60]}"
    kind = ResponseTooLargeError if answer.cut and answer.cut.startswith("larger") else SegmindServiceError
    return kind(
        f"Segmind answered {what} with HTTP {answer.status} and a body that makes no sense ({why}).",
        status_code=answer.status,
    )


def parse_request_id(answer: Response) -> str | None:
    """Return a submit's request id, ``None`` where the answer has no usable one."""
    request_id = answer.object.get("request_id")
    return request_id if isinstance(request_id, str) and is_request_id(request_id) else None


def announces_terminal_state(answer: Response) -> bool:
    """
    Whether the body names a terminal state: it then wins over the HTTP code (a FAILED comes as a 422).

    Not where the code is about the caller, nor where a proxy may be speaking of itself.
    """
    state = JobState.parse(answer.object.get("status"))
    if state is None or not state.terminal or answer.status in (401, 403, 429):
        return False
    return answer.status < 500 or not answer.object.keys().isdisjoint(("request_id", "metrics"))


def parse_status(answer: Response, request_id: str) -> SegmindStatus:
    """Read a status answer."""
    body = answer.object
    state = JobState.parse(body.get("status"))
    if state is None:
        raise _malformed(answer, "a status request")
    return SegmindStatus(request_id, state, error_text(body), Metrics.parse(body.get("metrics")))


def parse_result(answer: Response, request_id: str) -> SegmindResult:
    """Read a result answer. A body with outputs but no state counts as COMPLETED."""
    body = answer.object
    outputs = _first(body.get("images")) or _first(body.get("output"))
    state = JobState.parse(body.get("status"))
    if state is None and outputs:
        state = JobState.COMPLETED
    if state is None:
        raise _malformed(answer, "a result request")
    if state is not JobState.COMPLETED:
        outputs = ()
    return SegmindResult(request_id, state, outputs, Metrics.parse(body.get("metrics")), body)


def _first(value: object) -> tuple[SegmindOutput, ...]:
    return tuple(islice(_outputs(value), MAX_OUTPUTS))


def _outputs(value: object, depth: int = 0) -> Iterator[SegmindOutput]:
    if depth > 4 or value is None:
        return
    if isinstance(value, list | tuple):
        for item in value[:MAX_OUTPUTS]:
            yield from _outputs(item, depth + 1)
    elif isinstance(value, Mapping):
        yield from _described(value, depth)
    elif isinstance(value, str) and value.strip():
        yield from _written(value.strip(), depth)


def _described(value: Mapping[str, Any], depth: int) -> Iterator[SegmindOutput]:
    """Read an output given as an object: ``{"url", "content_type"?, "file_name"?, "file_size"?}`` or alike."""
    for key in ("url", "image", "image_url", "data", "b64_json", "images", "output"):
        for found in _outputs(value.get(key), depth + 1):
            size = value.get("file_size")
            yield SegmindOutput(
                url=found.url,
                data=found.data,
                content_type=_text(value.get("content_type")) or found.content_type,
                file_name=_text(value.get("file_name")) or found.file_name,
                file_size=size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None,
            )
            if key != "images":
                return


def _written(text: str, depth: int) -> Iterator[SegmindOutput]:
    """Read an output given as a string: a URL, JSON, a data URI, Base64, or plain text."""
    if _URL.fullmatch(text):
        yield SegmindOutput(url=text)
        return
    if text[0] in "[{":
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
        outputs = _outputs(parsed, depth + 1)
        if first := next(outputs, None):
            yield first
            yield from outputs
            return
    if text[:5].lower() == "data:" and "," in text:
        head, _, data = text.partition(",")
        content_type = head[5:].partition(";")[0].strip().lower() or None
        if head.lower().endswith(";base64"):
            decoded = _decode(data)
            if decoded is not None:
                yield SegmindOutput(data=decoded, content_type=content_type)
            return
    compact = "".join(text.split()) if len(text) > 64 else text
    if _BASE64.fullmatch(compact):
        decoded = _decode(compact)
        if decoded is not None:
            yield SegmindOutput(data=decoded)
            return
    yield SegmindOutput(data=text.encode("utf-8", "replace"), content_type="text/plain")


def _decode(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 255 else None


def parse_rows(answer: Response) -> list[SegmindRecord]:
    """Read a page of the history: a bare list, or one under any of the keys that it may have."""
    body = answer.json
    for _ in range(2):  # {"data": {"results": [...]}} has been likely enough to accept
        if isinstance(body, dict):
            body = next((body[key] for key in _ROW_CONTAINERS if isinstance(body.get(key), list | dict)), None)
    if not isinstance(body, list) or len(body) > MAX_ROWS:
        raise _malformed(answer, "a look into the request history")
    records = [_record(row) for row in body]
    if None in records:  # it may be the very one that is looked for: no such page proves an absence
        raise _malformed(answer, "a look into the request history")
    return [record for record in records if record is not None]


def parse_record(answer: Response, request_id: str) -> SegmindRecord:
    """Read one record of the history, bare or in a container."""
    body = answer.json
    for _ in range(2):
        if isinstance(body, dict) and "request_id" not in body:
            body = next((body[key] for key in (*_ROW_CONTAINERS, "record", "request") if key in body), None)
        if isinstance(body, list):
            body = body[0] if body else None
    record = _record(body)
    if record is None or record.request_id != request_id:
        raise _malformed(answer, "a look-up in the request history")
    return record


def _record(row: object) -> SegmindRecord | None:
    if not isinstance(row, dict) or not is_request_id(row.get("request_id")):
        return None
    word = row.get("model_status", row.get("status"))
    state = JobState.parse(word)
    body = row.get("request_body")
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            body = None
    url = row.get("generation_url")
    return SegmindRecord(
        request_id=row["request_id"],
        model=_text(row.get("model_name")),
        state=state if state is not None and state.terminal else None,
        output_url=url if isinstance(url, str) and _URL.fullmatch(url) else None,
        created_at=next((at for key in _CREATED if (at := parse_timestamp(row.get(key)))), None),
        cost=parse_number(row.get("credits_deduction")),
        error=error_text(row),
        request_body=body if isinstance(body, dict) else None,
    )
