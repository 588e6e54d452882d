"""
Reading responses: liberal in shape, strict in type.

Shapes vary and are only partly published, so whatever can be recognised is accepted. A response without what was asked
for raises :class:`SegmindServiceError`, which a GET repeats.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

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

MAX_OUTPUTS = 64
MAX_ROWS = 10_000
"""No real response has more, and one that lists millions of things costs no time."""

_MAX_DEPTH = 4
_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f\ud800-\udfff\"'<>\\^`{|}]+", re.IGNORECASE)
_CREATED = ("model_created", "created_at", "created", "timestamp")
_ROW_CONTAINERS = ("data", "results", "items", "generations")
_RECORD_CONTAINERS = (*_ROW_CONTAINERS, "record", "request")

T = TypeVar("T")


class ResponseTooLargeError(SegmindServiceError):
    """A response was truncated because of its size: asking for the same again is pointless, for less may help."""

    policy = replace(SegmindServiceError.policy, repeat=False)


def _malformed(response: Response, action: str) -> SegmindServiceError:
    size = f"{len(response.body)} bytes of {(response.content_type or 'no declared type')[:60]}"
    kind = ResponseTooLargeError if response.too_large else SegmindServiceError
    return kind(
        f"Segmind's response to {action} makes no sense (HTTP {response.status}, {response.truncated or size}).",
        status_code=response.status,
    )


# ---------------------------------------------------------------- text and Base64


def error_text(body: Mapping[str, Any]) -> str | None:
    """Return Segmind's own words, from any of its envelopes; ``None`` where there are none."""
    for key in ("error_description", "error", "detail", "message"):
        value = body.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, dict | list) and value:
            try:
                return json.dumps(value)
            except (ValueError, RecursionError):
                return None
    return None


def split_data_uri(text: str) -> tuple[str, str] | None:
    """Return the two sides of a data URI's comma (``image/png;base64`` and the data); ``None`` for any other text."""
    if text[:5].lower() != "data:" or "," not in text:
        return None
    header, _, data = text[5:].partition(",")
    return header.strip().lower(), data


def decode_base64(text: str, *, min_length: int = 0, cut_short: bool = False) -> bytes | None:
    """
    Return what a Base64 string holds; ``None`` where it is something else, or empty.

    :param text: without a ``data:`` prefix; whitespace anywhere is ignored
    :param min_length: characters below which a text is not taken for Base64: any short word would be
    :param cut_short: accept a string whose end was cut off, and an ellipsis in its place
    """
    characters = "".join(text.split())
    if len(characters) < min_length:
        return None
    if cut_short:
        characters = characters.rstrip(".…=")
        if len(characters) % 4 == 1:  # 6 bits of a byte
            characters = characters[:-1]
        characters += "=" * (-len(characters) % 4)
    try:
        return base64.b64decode(characters, validate=True) or None
    except ValueError:
        return None


def _short_text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 255 else None


# ---------------------------------------------------------------- jobs


def parse_request_id(response: Response) -> str | None:
    """Return the request id that a submit returned; ``None`` where the response has no usable one."""
    request_id = response.object.get("request_id")
    return request_id if isinstance(request_id, str) and is_request_id(request_id) else None


def announces_terminal_state(response: Response) -> bool:
    """
    Return whether the body names a terminal state, which then wins over the HTTP status.

    A FAILED comes as a 422. Source: Segmind's API page. It does not win where the status is about the caller, nor over
    a 5xx in which a proxy may be speaking of itself.
    """
    state = JobState.parse(response.object.get("status"))
    if state is None or not state.terminal or response.status in (401, 403, 429):
        return False
    return response.status < 500 or not response.object.keys().isdisjoint(("request_id", "metrics"))


def parse_status(response: Response, request_id: str) -> SegmindStatus:
    """Read the response to a status request."""
    body = response.object
    state = JobState.parse(body.get("status"))
    if state is None:
        raise _malformed(response, "a status request")
    return SegmindStatus(request_id, state, error_text(body), Metrics.parse(body.get("metrics")))


def parse_result(response: Response, request_id: str) -> SegmindResult:
    """Read the response to a result request. A body with outputs and no state counts as COMPLETED."""
    body = response.object
    outputs = _outputs(body.get("images")) or _outputs(body.get("output"))
    state = JobState.parse(body.get("status"))
    if state is None and outputs:
        state = JobState.COMPLETED
    if state is None:
        raise _malformed(response, "a result request")
    if state is not JobState.COMPLETED:
        outputs = ()
    return SegmindResult(request_id, state, outputs, Metrics.parse(body.get("metrics")), body)


# ---------------------------------------------------------------- outputs


def _outputs(value: object, depth: int = 0) -> tuple[SegmindOutput, ...]:
    return tuple(islice(_find_outputs(value, depth), MAX_OUTPUTS))


def _find_outputs(value: object, depth: int) -> Iterator[SegmindOutput]:
    """Find the outputs in a list, an object or a text, at most four levels deep."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list | tuple):
        for item in value[:MAX_OUTPUTS]:
            yield from _find_outputs(item, depth + 1)
    elif isinstance(value, Mapping):
        yield from _outputs_in_object(value, depth)
    elif isinstance(value, str) and value.strip():
        yield from _outputs_in_text(value.strip(), depth)


def _outputs_in_object(value: Mapping[str, Any], depth: int) -> Iterator[SegmindOutput]:
    """Read one output (``{"url", "content_type"?, "file_name"?, "file_size"?}``), or several under ``images``."""
    size = value.get("file_size")
    for key in ("url", "image", "image_url", "data", "b64_json", "images", "output"):
        for found in _find_outputs(value.get(key), depth + 1):
            yield replace(
                found,
                content_type=_short_text(value.get("content_type")) or found.content_type,
                file_name=_short_text(value.get("file_name")) or found.file_name,
                file_size=size if type(size) is int and size > 0 else None,
            )
            if key != "images":
                return


def _outputs_in_text(text: str, depth: int) -> Iterator[SegmindOutput]:
    """Read a URL, JSON, a data URI or Base64; anything else is a text that the model wrote."""
    if _URL.fullmatch(text):
        yield SegmindOutput(url=text)
        return
    if text[0] in "[{":
        try:
            outputs = _outputs(json.loads(text), depth + 1)
        except (ValueError, RecursionError):
            outputs = ()
        if outputs:
            yield from outputs
            return
    if data_uri := split_data_uri(text):
        header, encoded = data_uri
        decoded = decode_base64(encoded) if header.endswith(";base64") else None
        if decoded is not None:
            yield SegmindOutput(data=decoded, content_type=header.partition(";")[0] or None)
        return
    decoded = decode_base64(text, min_length=64)
    if decoded is not None:
        yield SegmindOutput(data=decoded)
    else:
        yield SegmindOutput(data=text.encode("utf-8", "replace"), content_type="text/plain")


# ---------------------------------------------------------------- the request history


def parse_rows(response: Response) -> list[SegmindRecord]:
    """
    Read a page of the request history: a bare list, or one in any container that it may have.

    A row that cannot be read may be the very one that is looked for. Such a page proves no absence, so it is an error.
    """
    body = _unwrap(response.json, _ROW_CONTAINERS)
    if not isinstance(body, list) or len(body) > MAX_ROWS:
        raise _malformed(response, "a search of the request history")
    records = [_record(row) for row in body]
    if None in records:
        raise _malformed(response, "a search of the request history")
    return [record for record in records if record is not None]


def parse_record(response: Response, request_id: str) -> SegmindRecord:
    """
    Read the record of one request, bare or in a container.

    A request with several outputs has a row for each. All rows name the cost of the whole request (source: the official
    client 1.3.0), so it is taken once.
    """
    body = _unwrap(response.json, _RECORD_CONTAINERS)
    rows = [_record(row) for row in (body[:MAX_OUTPUTS] if isinstance(body, list) else [body])]
    records = [record for record in rows if record is not None and record.request_id == request_id]
    if not records:
        raise _malformed(response, "a look-up in the request history")
    urls = dict.fromkeys(url for record in records for url in record.output_urls)
    return replace(
        records[0],
        state=_first(record.state for record in records),
        output_urls=tuple(urls),
        created_at=_first(record.created_at for record in records),
        cost=_first(record.cost for record in records),
    )


def _unwrap(body: object, containers: Iterable[str]) -> object:
    """Take rows out of their container, which may stand in another: ``{"data": {"results": [...]}}``."""
    for _ in range(2):
        if isinstance(body, dict) and "request_id" not in body:
            body = next((body[key] for key in containers if isinstance(body.get(key), list | dict)), None)
    return body


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _record(row: object) -> SegmindRecord | None:
    if not isinstance(row, dict) or not is_request_id(row.get("request_id")):
        return None
    state = JobState.parse(row.get("model_status", row.get("status")))
    body = row.get("request_body")
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            body = None
    url = row.get("generation_url")
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
