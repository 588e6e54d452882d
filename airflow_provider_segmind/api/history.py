"""The request history: what became of a submit whose answer never came, and of a job whose record has expired."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from airflow_provider_segmind.api.gateway import get
from airflow_provider_segmind.api.models import JobState, SegmindRecord, check_model, parse_timestamp
from airflow_provider_segmind.api.operation import ApiContext, Operation, Response, pause
from airflow_provider_segmind.api.parsing import ResponseTooLargeError, parse_record, parse_rows
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindJobExpiredError,
    SegmindSubmitUnknownError,
)

PAGES = {100: 20, 10: 60, 1: 120}
"""Rows asked for at a time, and how many such pages at most; fewer rows where a page is too large to be read, for they
hold inline images as they were sent."""

CLOCK_SKEW = 5.0
"""Seconds by which a row may seem older than its submit, once both are told by Segmind's clock."""

LISTED_WITHIN = 60.0
"""A record can land late. A submit that is still not listed this many seconds after it broke off did not happen."""

SEARCH_DELAYS = (3.0, 10.0, 25.0, LISTED_WITHIN)
"""Seconds after the submit at which it is looked for again while it is not listed."""

_HEAD = 1024
_ADDRESS = re.compile(r"(https?://[^?#]*)", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+")


def fingerprint(payload: Mapping[str, object]) -> dict[str, str]:
    """
    Return what a job's inputs are known by: an address without its query, digests of anything else.

    Signatures change and bodies are long and private, so neither is kept; inline data has the same digests as Base64
    and as data URI.
    """
    return {key: _mark(value) for key, value in payload.items()}


def _mark(value: object) -> str:
    if isinstance(value, str):
        address = _ADDRESS.match(value)
        if address:
            return f"url:{address[1]}"
        data = _inline(value)
        if data is not None:
            return f"data:{len(data)}:{_digest(data[:_HEAD])}:{_digest(data)}"
    if isinstance(value, str) and value.lower() in ("true", "false"):
        value = value.lower() == "true"
    if isinstance(value, int) and abs(value) < 1 << 53:
        value = float(value)  # a database may keep a flag as 1, and 7 as 7.0
    return f"value:{_digest(json.dumps(value, sort_keys=True, default=str).encode())}"


def _inline(value: str) -> bytes | None:
    """Decode a data URI or a long Base64 string, also one that was cut short; ``None`` for any other text."""
    is_uri = value[:5].lower() == "data:"
    text = "".join((value.partition(",")[2] if is_uri else value).split()).rstrip(".…=")
    if not (is_uri or len(text) >= 256) or not _BASE64.fullmatch(text):
        return None
    try:
        return base64.b64decode(text[: len(text) - 1 if len(text) % 4 == 1 else None] + "==")
    except binascii.Error:
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Match(Enum):
    YES = "yes"
    NO = "no"
    UNSURE = "unsure"


def _compare(wanted: Mapping[str, str], record: SegmindRecord) -> _Match:
    """
    Hold a record against a job's inputs, key by key.

    A plain value that the record lacks decides nothing; a file that it lacks leaves the match unsure, for without it
    any two photos would be the same.
    """
    body = record.request_body
    if body is None:
        return _Match.UNSURE
    there = {key: _mark(body[key]) for key in wanted if body.get(key) is not None}
    verdicts = [_compare_mark(mark, there[key]) for key, mark in wanted.items() if key in there]
    if _Match.NO in verdicts:
        return _Match.NO
    needed = [key for key, mark in wanted.items() if not mark.startswith("value:")] or list(wanted)
    if not needed:
        return _Match.UNSURE  # of a job without inputs any job of its model could be the one
    return _Match.YES if all(key in there for key in needed) and _Match.UNSURE not in verdicts else _Match.UNSURE


def _compare_mark(ours: str, theirs: str) -> _Match:
    if ours == theirs:
        return _Match.YES
    if not ours.startswith("data:") or theirs.startswith("url:"):
        return _Match.NO
    if not theirs.startswith("data:"):
        return _Match.UNSURE  # shortened beyond recognition
    size, head, _ = ours[5:].split(":")
    their_size, their_head, _ = theirs[5:].split(":")
    if int(their_size) >= int(size) or (int(their_size) >= _HEAD and their_head != head):
        return _Match.NO
    return _Match.UNSURE  # begins like ours and is shorter: shortened, or another photo of the same camera


@dataclass(frozen=True, slots=True)
class _Search:
    """One look through the history."""

    matches: tuple[SegmindRecord, ...]
    unsure: bool


def get_record(api: ApiContext, request_id: str) -> Operation[SegmindRecord | None]:
    """Look one request up in the history, whatever its age; ``None`` where the history does not have it."""
    try:
        return (
            yield from get(
                api,
                api.record_url(request_id),
                "a look-up in the request history",
                lambda answer: parse_record(answer, request_id),
                request_id=request_id,
                gateway=False,
            )
        )
    except SegmindJobExpiredError:
        return None


def find_request(
    api: ApiContext, model: str, wanted: Mapping[str, str], *, since: float, until: float | None = None
) -> Operation[SegmindRecord | None]:
    """
    Look for the request of a submit whose outcome is unknown; ``None``: surely there is none.

    :param wanted: the :func:`fingerprint` of the payload
    :param since: epoch seconds of the first such submit, by this process's clock or that of an earlier one
    :param until: epoch seconds at which it broke off, where that is known: it may have been accepted as late
    :raises SegmindSubmitUnknownError: the history could not be read, not back to ``since``, or not clearly
    """
    check_model(model)
    since = min(since, api.clock())  # noted by a clock that was ahead: nothing is waited for into the future
    until = since if until is None else until
    while True:
        settled = api.clock() >= until + LISTED_WITHIN
        search = yield from _look(api, model, wanted, since)
        found = max(search.matches, key=_worth, default=None)
        if found is not None and (settled or found.state is not JobState.FAILED):
            return found  # a failed one may be another task's, while the row of ours is still to land
        if settled:
            break
        now = api.clock()
        yield from pause(next((until + after for after in SEARCH_DELAYS if until + after > now), now) - now)
    if search.unsure:
        raise SegmindSubmitUnknownError(
            f"The request history lists jobs of {model} since the submit that cannot be told from it (rows without "
            "inputs or time). Look at them in Segmind's console; on_unknown_submit='resubmit' pays again."
        )
    return None


def _worth(record: SegmindRecord) -> tuple[bool, float]:
    """Order matches: one that may be paid for before one that failed, then the newest."""
    return record.state is not JobState.FAILED, record.created_at or 0.0


def _look(api: ApiContext, model: str, wanted: Mapping[str, str], since: float) -> Operation[_Search]:
    for per_page in PAGES:
        try:
            return (yield from _look_by(per_page, api, model, wanted, since))
        except ResponseTooLargeError as too_large:
            error = too_large
    raise SegmindSubmitUnknownError(
        f"Whether a submit to {model} was queued is unknown, and the request history cannot tell: {error}"
    ) from error


def _look_by(per_page: int, api: ApiContext, model: str, wanted: Mapping[str, str], since: float) -> Operation[_Search]:
    matches: list[SegmindRecord] = []
    unsure = False
    seen: set[str] = set()
    today = datetime.fromtimestamp(api.clock(), UTC).date()
    first_day = datetime.fromtimestamp(since - CLOCK_SKEW, UTC).date() - timedelta(
        days=1
    )  # whatever zone a row's day is in
    if today - first_day > timedelta(days=29):
        raise SegmindSubmitUnknownError(
            f"A submit to {model} is unknown since {first_day}, and the request history reaches back 31 days only. "
            "Look for it in Segmind's console; on_unknown_submit='resubmit' pays again."
        )
    for page in range(1, PAGES[per_page] + 1):
        params = {
            "page": str(page),
            "per_page": str(per_page),
            "from_date": first_day.isoformat(),
            "to_date": (today + timedelta(days=1)).isoformat(),
            "model_name": model,
            "sort_by": "model_created",
            "sort_order": "desc",
        }
        try:
            rows, ahead = yield from get(
                api,
                api.history_url,
                "a look into the request history",
                lambda answer: (parse_rows(answer), _ahead(answer, api.clock())),
                params=params,
                gateway=False,
            )
        except ResponseTooLargeError:
            raise
        except SegmindError as error:
            raise SegmindSubmitUnknownError(
                f"Whether a submit to {model} was queued is unknown, and the request history cannot tell: {error}"
            ) from error
        fresh = [row for row in rows if row.request_id not in seen]
        seen.update(row.request_id for row in rows)
        earliest = since - ahead - CLOCK_SKEW
        for row in fresh:
            if row.model not in (model, None) or (row.created_at is not None and row.created_at < earliest):
                continue
            found = _compare(wanted, row)
            if found is _Match.YES and row.created_at is not None:
                matches.append(row)
            elif found is not _Match.NO:
                unsure = True
        if not fresh and len(rows) >= per_page:
            break  # the same full page again: there is more, and no way to it
        if not fresh or _reaches_back(rows, earliest):
            return _Search(tuple(matches), unsure)
    raise SegmindSubmitUnknownError(
        f"Whether a submit to {model} was queued is unknown: {page} pages of the request history do not reach "
        "back to it. Look for it in Segmind's console; on_unknown_submit='resubmit' pays again."
    )


def _ahead(answer: Response, now: float) -> float:
    """Return the seconds by which our clock is ahead of Segmind's; 0 where its ``Date`` says nothing of use."""
    told = parse_timestamp(answer.headers.get("date"))
    ahead = 0.0 if told is None else now - told
    return ahead if 2.0 < abs(ahead) < 86_400 else 0.0  # the header has whole seconds


def _reaches_back(rows: list[SegmindRecord], earliest: float) -> bool:
    """Whether a page, sorted as asked for, ends before ``earliest``: what follows is older still."""
    times = [row.created_at for row in rows]
    if any(at is None for at in times):
        return False
    known = [at for at in times if at is not None]
    return known == sorted(known, reverse=True) and known[-1] < earliest
