"""
The request history: what became of a submit whose response never came, and of a job whose record has expired.

It lives on a host of its own, lists requests of any state for 31 days, and keeps single records longer. Source for both
endpoints: the official client 1.3.0. Three of its properties decide how it is searched.

It is late
    How long after its request a row lands is not published. So an absence counts only ``LISTED_WITHIN`` seconds after
    the submit ended; nor does a failed match count before that: it may be another task's, with our own row to come.

It has its own clock
    Rows are dated by Segmind's clock and submits by ours. The ``Date`` header of each page tells how far ours is ahead;
    it has whole seconds, and rows may be a little older than the request, hence ``CLOCK_SKEW``.

It may not show everything
    A page too large to read, a row without inputs or time, inputs that are cut short, an unreadable row, pages that
    never reach back to the submit: none of these proves an absence. A wrong "absent" is paid for twice, so they all
    leave the outcome unknown.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from airflow_provider_segmind.api.gateway import get
from airflow_provider_segmind.api.history_pages import CLOCK_SKEW, query_for, reaches_back, read_page
from airflow_provider_segmind.api.models import (
    JobState,
    SegmindRecord,
    check_model,
    check_request_id,
    decode_base64,
    split_data_uri,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation, pause
from airflow_provider_segmind.api.parsing import ResponseTooLargeError, parse_record
from airflow_provider_segmind.exceptions import SegmindError, SegmindJobExpiredError, SegmindSubmitUnknownError

LISTED_WITHIN = 60.0  # seconds after its end, at which a submit that is not listed was not accepted
SEARCH_DELAYS = (3.0, 10.0, 25.0, LISTED_WITHIN)  # seconds after the end of the submit at which a search is repeated
# Rows per page, and how many such pages are read at most. Rows hold inline images as they were sent, so a page may be
# too large to read; then smaller ones are asked for.
PAGES = {100: 20, 10: 60, 1: 120}
_HEAD = 1024
_MIN_INLINE = 256
_MIN_CUT = 200  # characters that a row keeps at least of a longer text, where no ellipsis says that it was cut
_ADDRESS = re.compile(r"(https?://[^?#]*)", re.IGNORECASE)
_ADVICE = "Look for it in Segmind's console; on_unknown_submit='resubmit' submits again, and may pay twice."


def payload_fingerprint(payload: Mapping[str, object]) -> dict[str, str]:
    """
    Return what a request's inputs are recognised by in the history: one short text for each parameter as it is sent.

    An address counts without its query, because signatures change. Inline data and long texts count by their length
    and the digests of their beginning and of the whole, so that one that is cut short can be told from another one.
    """
    return {key: _value_fingerprint(value) for key, value in payload.items()}


def _value_fingerprint(value: object) -> str:
    if isinstance(value, str):
        if address := _ADDRESS.match(value):
            return f"url:{address[1]}"
        data_uri = split_data_uri(value)
        encoded, min_length = (data_uri[1], 0) if data_uri else (value, _MIN_INLINE)
        if data := decode_base64(encoded, min_length=min_length, cut_short=True):
            return f"data:{len(data)}:{_digest(data[:_HEAD])}:{_digest(data)}"
        if len(value) >= _MIN_CUT:
            return f"text:{len(value)}:{_digest_json(value[:_MIN_CUT])}:{_digest_json(value)}"
        if value.lower() in ("true", "false"):
            value = value.lower() == "true"
    if isinstance(value, int) and abs(value) < 1 << 53:
        value = float(value)  # a database may keep a flag as 1, and 7 as 7.0
    return f"value:{_digest_json(value)}"


def _digest_json(value: object) -> str:
    return _digest(json.dumps(value, sort_keys=True, default=str).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _match_inputs(ours: Mapping[str, str], record: SegmindRecord) -> bool | None:
    """
    Compare a record with our inputs, parameter by parameter; ``None`` if it cannot tell.

    A plain value that the record lacks decides nothing. A file that it lacks leaves the match unsure: without it any
    two photos would be the same. So does a request without any inputs, which matches every job of its model.
    """
    body = record.request_body or {}
    named = [key for key in ours if body.get(key) is not None]
    verdicts = {key: _match_value(ours[key], body[key]) for key in named}
    if False in verdicts.values():
        return False
    required = [key for key in ours if ours[key].startswith(("url:", "data:"))] or list(ours)
    complete = bool(required) and all(key in verdicts for key in required)
    return True if complete and None not in verdicts.values() else None


def _match_value(ours: str, value: object) -> bool | None:
    """Compare a parameter's fingerprint with what a row shows; ``None`` if that may be ours, cut short or left out."""
    theirs = _value_fingerprint(value)
    if ours == theirs:
        return True
    kind, their_kind = ours.partition(":")[0], theirs.partition(":")[0]
    if kind in ("url", "data") and their_kind not in ("url", "data"):
        return None  # the row has a placeholder instead of the file
    if kind == their_kind == "url":
        cut_short = _has_ellipsis(theirs) or len(theirs) >= _MIN_CUT
        return None if cut_short and ours.startswith(theirs.rstrip(".…")) else False
    if kind == their_kind and kind in ("data", "text"):
        (_, our_size, our_head, _), (_, their_size, their_head, _) = ours.split(":"), theirs.split(":")
        if their_head != our_head and int(their_size) >= (_HEAD if kind == "data" else _MIN_CUT):
            return False
        # Shorter, with the same start: ours, cut short, or another photo of the same camera.
        return None if int(their_size) < int(our_size) or (kind == "text" and _has_ellipsis(value)) else False
    return None if _has_ellipsis(value) or _has_cut_text(value) else False


def _has_ellipsis(value: object) -> bool:
    return isinstance(value, str) and value.endswith(("...", "…"))


def _has_cut_text(value: object) -> bool:
    """Tell whether a list or a dict may show a text in part: one with an ellipsis, or a long one."""
    unread = [value] if isinstance(value, Mapping | list) else []
    while unread:
        item = unread.pop()
        if _has_ellipsis(item) or (isinstance(item, str) and len(item) >= _MIN_CUT):
            return True
        unread.extend(item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ())
    return False


def get_record(api: ApiContext, request_id: str, *, until: float | None = None) -> Operation[SegmindRecord | None]:
    """Look a request of any age up; ``None`` if the history does not have it."""
    url, action = f"{api.history_url}/{check_request_id(request_id)}", "a look-up in the request history"
    read = partial(parse_record, request_id=request_id)
    try:
        return (yield from get(api, url, action, read, request_id=request_id, until=until, gateway=False))
    except SegmindJobExpiredError:
        return None


def find_request(
    api: ApiContext,
    model: str,
    fingerprint: Mapping[str, str],
    *,
    since: float,
    until: float | None = None,
    once: bool = False,
) -> Operation[SegmindRecord | None]:
    """
    Search the history for the request of a submit whose outcome is unknown.

    :param since: epoch seconds of the submit, or of the first of several, by the clock of this or an earlier process
    :param until: epoch seconds at which the submit ended, if known; it may have been accepted that late
    :param once: search once, whatever the time; that none is found then says nothing
    :return: the newest matching request, ``None`` if there certainly is none, which can take a minute to say
    :raises SegmindSubmitUnknownError: the history cannot tell
    """
    check_model(model)
    since = min(since, api.clock())  # the submit may be dated by a clock that was ahead
    ended = since if until is None else until
    while True:
        late_rows_listed = api.clock() >= ended + LISTED_WITHIN
        matches, unsure = yield from _search(api, model, fingerprint, since)
        # A job that may be billed before one that failed, then the newest.
        best = max(matches, key=lambda row: (row.state is not JobState.FAILED, row.created_at or 0.0), default=None)
        if best is not None and (late_rows_listed or best.state is not JobState.FAILED):
            return best
        if once:
            return None
        if late_rows_listed:
            break
        now = api.clock()
        yield from pause(next((ended + delay - now for delay in SEARCH_DELAYS if ended + delay > now), 0.0))
    if unsure:
        raise SegmindSubmitUnknownError(
            f"The request history lists jobs of {model} that may be the submit's own, but lack the inputs or the time "
            f"that would identify it. {_ADVICE}"
        )
    return None


def _search(
    api: ApiContext, model: str, fingerprint: Mapping[str, str], since: float
) -> Operation[tuple[list[SegmindRecord], bool]]:
    """Search once, with smaller pages if large ones are too large to read."""
    for rows_per_page in PAGES:
        try:
            return (yield from _read_pages(api, model, fingerprint, since, rows_per_page))
        except SegmindSubmitUnknownError:
            raise
        except SegmindError as caught:
            error = caught
            if not isinstance(caught, ResponseTooLargeError):
                break
    raise SegmindSubmitUnknownError(
        f"Whether the submit to {model} was queued is unknown, and the request history cannot tell: {error}"
    ) from error


def _read_pages(
    api: ApiContext, model: str, fingerprint: Mapping[str, str], since: float, rows_per_page: int
) -> Operation[tuple[list[SegmindRecord], bool]]:
    """
    Read page after page until they reach back to the submit.

    :return: the rows that match, and whether others may be the request but lack what would identify it
    """
    query = query_for(api, model, since)
    if query is None:
        first = datetime.fromtimestamp(since, UTC).date()
        problem = f"The outcome of a submit to {model} is unknown since {first}, and the history shows only 31 days."
        raise SegmindSubmitUnknownError(f"{problem} {_ADVICE}")
    seen: set[str] = set()
    matches, unsure = [], False
    for page in range(1, PAGES[rows_per_page] + 1):
        rows, ahead = yield from read_page(api, query, page, rows_per_page)
        earliest = since - ahead - CLOCK_SKEW  # by Segmind's clock; what is before it is older than the submit
        new = [row for row in rows if row.request_id not in seen]
        seen.update(row.request_id for row in new)
        for row in new:
            if row.model not in (model, None) or (row.created_at is not None and row.created_at < earliest):
                continue
            match = _match_inputs(fingerprint, row)
            if match and row.created_at is not None:
                matches.append(row)
            elif match is not False:
                unsure = True
        if not new and len(rows) >= rows_per_page:
            break  # the same full page again: there is more, and no way to reach it
        if not new or reaches_back(rows, earliest):
            return matches, unsure
    raise SegmindSubmitUnknownError(
        f"Whether the submit to {model} was queued is unknown: {page} pages of the request history do not reach back "
        f"to it. {_ADVICE}"
    )
