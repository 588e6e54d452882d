"""The endpoints of the request history, which lists requests with their costs and results."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_segmind.emulator.endpoints import error_response, output_url
from airflow_provider_segmind.emulator.jobs import Job, JobStore
from airflow_provider_segmind.emulator.rate_limit import iso_utc

DEFAULT_DAYS = 7
MAX_DAYS = 31
SORTS = {
    "model_created": lambda job: job.created,
    "model_name": lambda job: (job.model, job.created),
    "credits_deduction": lambda job: (job.cost, job.created),
}


class HistoryEndpoints:
    """
    The list of requests and the look-up by id.

    :param store: all jobs
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def _listed(self) -> list[Job]:
        now = time.time()
        return [job for job in self._store.all() if now >= job.listed]

    async def list(self, request: Request) -> Response:
        """``GET /inference-request/request-history``."""
        query = request.query_params
        today = datetime.now(UTC).date()
        try:
            page, per_page = int(query.get("page", "1")), int(query.get("per_page", "20"))
            last = date.fromisoformat(query.get("to_date", today.isoformat()))
            first = date.fromisoformat(query.get("from_date", (last - timedelta(DEFAULT_DAYS)).isoformat()))
        except ValueError as error:
            return error_response(400, f"Invalid query: {error}")
        status, sort_by = query.get("status"), query.get("sort_by", "model_created")
        order = query.get("sort_order", "desc")
        if page < 1 or not 1 <= per_page <= 100:
            return error_response(400, "page must be at least 1 and per_page from 1 to 100")
        if not timedelta() <= last - first <= timedelta(MAX_DAYS):
            return error_response(400, f"The window must span at most {MAX_DAYS} days and end after it begins")
        if status not in (None, "COMPLETED", "FAILED", "PENDING") or sort_by not in SORTS:
            return error_response(400, "Unknown status or sort_by")
        if order not in ("asc", "desc"):
            return error_response(400, "sort_order must be asc or desc")
        jobs = [
            job
            for job in self._listed()
            if first <= datetime.fromtimestamp(job.created, UTC).date() <= last
            and query.get("model_name", "") in job.model
            and status in (None, _status(job))
        ]
        jobs.sort(key=SORTS[sort_by], reverse=order == "desc")
        # A request with several outputs is listed once per output.
        outputs = [(job, name) for job in jobs for name in (*job.files,) or (None,)]
        shown = outputs[(page - 1) * per_page : page * per_page]
        return JSONResponse(
            {
                "data": [self._row(request, job, name) for job, name in shown],
                "page": page,
                "per_page": per_page,
                "total": len(outputs),
                "total_pages": -(-len(outputs) // per_page),
            }
        )

    async def record(self, request: Request) -> Response:
        """``GET /inference-request/request-history/{id}``, for requests of any age."""
        job = self._store.get(request.path_params["request_id"])
        if job is None or time.time() < job.listed:
            return error_response(404, "Request not found")
        return JSONResponse(self._row(request, job, job.files[0] if job.files else None))

    def _row(self, request: Request, job: Job, name: str | None) -> dict[str, Any]:
        return {
            "request_id": job.request_id,
            "model_name": job.model,
            "model_status": _status(job),
            "credits_deduction": job.cost,
            "request_body": self._store.request_body(job.request_id),
            "generation_url": None if name is None else output_url(request, name),
            "latency_ms": None if job.finished is None else round((job.finished - job.created) * 1000),
            "model_created": iso_utc(job.created),
            "model_finished": None if job.finished is None else iso_utc(job.finished),
            "error": job.error,
        }


def _status(job: Job) -> str:
    state = job.state(time.time())
    return state if state in ("COMPLETED", "FAILED") else "PENDING"
