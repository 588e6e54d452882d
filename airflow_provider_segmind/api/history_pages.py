"""
Pages of the request history: one tells the state and the outputs of up to a hundred requests.

The history is on a host of its own, so its pages do not count for the gateway's rate limit. It is late by a time that
is not published, has its own clock, and lists a request with several outputs once for each of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from airflow_provider_segmind.api.gateway import GET_ATTEMPTS, get
from airflow_provider_segmind.api.models import SegmindRecord, check_model, parse_timestamp
from airflow_provider_segmind.api.operation import ApiContext, Operation, Response
from airflow_provider_segmind.api.parsing import merge_rows, parse_rows
from airflow_provider_segmind.exceptions import SegmindError

CLOCK_SKEW = 5.0
MAX_DAYS = 29  # of 31 that the history shows; two are to spare, because the zone of its days is not published
ROWS = 100  # the most that a page may have
MAX_PAGES = 20  # that are read in search of the requests of one wave
READ_SECONDS = 20.0  # for all pages of one reading; a history that takes longer is not worth waiting for


def query_for(api: ApiContext, model: str, since: float) -> dict[str, str] | None:
    """
    Return what to ask for to see the requests since a moment, newest first, with a day to spare on either side.

    :param since: epoch seconds
    :return: ``None`` if the moment is too long ago for the history
    """
    today = datetime.fromtimestamp(api.clock(), UTC).date()
    first = datetime.fromtimestamp(since - CLOCK_SKEW, UTC).date() - timedelta(days=1)
    if today - first > timedelta(days=MAX_DAYS):
        return None
    days = {"from_date": first.isoformat(), "to_date": (today + timedelta(days=1)).isoformat()}
    return {"model_name": check_model(model), "sort_by": "model_created", "sort_order": "desc", **days}


def read_page(
    api: ApiContext,
    query: Mapping[str, str],
    page: int,
    rows_per_page: int = ROWS,
    *,
    some: bool = False,
    attempts: int = GET_ATTEMPTS,
    until: float | None = None,
) -> Operation[tuple[list[SegmindRecord], float]]:
    """
    Read a page, counted from 1.

    :param some: leave out unreadable rows, instead of refusing the page
    :return: the rows, and how many seconds our clock is ahead of Segmind's: 0 if they agree within 2 s, or if the
        response's date is missing or absurd
    """
    params = {"page": str(page), "per_page": str(rows_per_page), **query}
    action = "a search of the request history"
    read = partial(_read, api, some=some)
    return get(api, api.history_url, action, read, params=params, attempts=attempts, until=until, gateway=False)


def _read(api: ApiContext, response: Response, *, some: bool) -> tuple[list[SegmindRecord], float]:
    now = api.clock()
    ahead = now - (parse_timestamp(response.headers.get("date")) or now)
    return parse_rows(response, some=some), ahead if 2.0 < abs(ahead) < 86_400 else 0.0


def reaches_back(rows: Sequence[SegmindRecord], earliest: float) -> bool:
    """Return whether a page ends with requests from before a moment, so that later pages have only older ones."""
    times = [row.created_at for row in rows if row.created_at is not None]
    return bool(times) and len(times) == len(rows) and times == sorted(times, reverse=True) and times[-1] < earliest


@dataclass(slots=True)
class HistoryReading:
    """
    What pages of the history say about some requests.

    :param records: by request id; a record without a state is that of a pending request, or an odd one
    :param pages: how many were asked for
    :param failure: why the reading ended before its time, if it did
    """

    records: dict[str, SegmindRecord] = field(default_factory=dict)
    pages: int = 0
    failure: SegmindError | None = None


def read_history(
    api: ApiContext,
    model: str,
    request_ids: Collection[str],
    since: float,
    *,
    outputs: bool = False,
    until: float | None = None,
) -> Operation[HistoryReading]:
    """
    Read pages until all requests were seen, or the pages reach back to before the first of them.

    It ends early, without a SegmindError, where a page cannot be read: a page with inline images may be too large.

    :param since: epoch seconds of the first submit
    :param outputs: read on where the next page may have more outputs of the last request
    :param until: epoch seconds at which the reading has ended; by default ``READ_SECONDS`` from now
    """
    reading = HistoryReading()
    rows_of: dict[str, list[SegmindRecord]] = {request_id: [] for request_id in request_ids}
    missing = set(request_ids)
    query = query_for(api, model, since)
    until = api.clock() + READ_SECONDS if until is None else until
    unfinished = False  # whether the next page may have more outputs of a request
    while (missing or unfinished) and query is not None and reading.pages < MAX_PAGES:
        reading.pages += 1
        try:
            rows, ahead = yield from read_page(api, query, reading.pages, some=True, attempts=2, until=until)
        except SegmindError as error:
            reading.failure = error
            break
        for row in rows:
            if row.request_id in rows_of and row.model in (model, None):
                rows_of[row.request_id].append(row)
        missing.difference_update(row.request_id for row in rows)
        unfinished = outputs and bool(rows) and rows[-1].request_id in rows_of
        # A page that is half empty is the last one; if it is not, what it misses is asked for request by request.
        if len(rows) < ROWS // 2 or reaches_back(rows, since - ahead - CLOCK_SKEW):
            break
    reading.records = {request_id: merge_rows(rows) for request_id, rows in rows_of.items() if rows}
    return reading


def records_of(
    api: ApiContext, model: str, request_ids: Collection[str], since: float
) -> Operation[dict[str, SegmindRecord]]:
    """
    Return the records of requests that were submitted since a moment, as far as the history has them by now.

    It never raises a SegmindError: a request that is missing, for any reason, is to be asked for by itself. Where a
    request has several outputs, their order may differ from that of its result.

    :param since: epoch seconds of the first submit
    """
    return (yield from read_history(api, model, request_ids, since, outputs=True)).records
