"""The calls around the jobs: credits, the upload to Segmind's storage, the synchronous v1."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_segmind.api.errors import other_hosts, refusal, submit_failure, submit_refusal
from airflow_provider_segmind.api.flow import Answer, Flow, Send, TransportFailure, send
from airflow_provider_segmind.api.inputs import check_payload, valid_request_id
from airflow_provider_segmind.api.requests import PATIENCE, get, turn
from airflow_provider_segmind.api.service import Service
from airflow_provider_segmind.api.values import Metrics, SegmindSyncResult, read_number
from airflow_provider_segmind.exceptions import (
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

UPLOAD_SECONDS = 300.0
SYNC_SECONDS = 180.0


def get_credits(service: Service) -> Flow[float]:
    """Ask for the account's balance in US dollars; runs no model and costs nothing."""
    return (yield from get(service, f"{service.base_url}/v1/get-user-credits", "a look at the credits", _read_credits))


def _read_credits(answer: Answer) -> float:
    credit = read_number(answer.object.get("credits"))
    if credit is None:
        raise SegmindServiceError("Segmind answered a look at the credits without a number.", status_code=answer.status)
    return credit


def upload(service: Service, data_uri: str) -> Flow[str]:
    """Store a file at Segmind (for good: it cannot be deleted there) and return its address. Not repeated."""
    try:
        answer = yield from send(
            Send("POST", service.storage_url, json={"data_urls": [data_uri]}, max_seconds=UPLOAD_SECONDS)
        )
    except TransportFailure as failure:
        raise SegmindServiceError(f"The upload to Segmind's storage broke off: {service.clean(failure)}") from None
    if not answer.ok:
        raise other_hosts(refusal(service, answer, "the upload to Segmind's storage", gateway=False))
    urls = answer.object.get("file_urls")
    if isinstance(urls, list) and urls and isinstance(urls[0], str) and urls[0].startswith(("https://", "http://")):
        return urls[0]
    raise SegmindServiceError("Segmind's storage took the upload and named no file.", status_code=answer.status)


def run_sync(service: Service, model: str, payload: Mapping[str, object]) -> Flow[SegmindSyncResult]:
    """
    POST to v1, which blocks and answers with the file itself. One POST, never repeated.

    :raises SegmindSubmitUnknownError: no whole answer came, and the call may be billed
    """
    url = service.model_url("v1", model)
    body = check_payload(payload)
    yield from turn(service, PATIENCE)
    try:
        answer = yield from send(
            Send(
                "POST",
                url,
                json=body,
                max_bytes=service.max_result_bytes,
                max_seconds=SYNC_SECONDS,
                read_timeout=SYNC_SECONDS,  # the answer begins when the job has ended
            )
        )
    except TransportFailure as failure:
        raise submit_failure(service, failure, model) from None
    if not answer.ok:
        raise submit_refusal(service, answer, model)
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
        request_id=request_id if valid_request_id(request_id) else None,
        metrics=Metrics.read(
            {
                "inference_time": answer.headers.get("x-generation-time"),
                "cost": answer.headers.get("x-cost"),
                "remaining_credits": answer.headers.get("x-remaining-credits"),
            }
        ),
    )
