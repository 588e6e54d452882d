"""The request and the response as the gateway and the faults see them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_segmind.emulator.jobs import Job, JobPlan

Proceed = Callable[[], Awaitable["EmulatorResponse"]]

REQUEST_KINDS = (
    "submit",  # POST /v2/{model}
    "sync",  # POST /v1/{model}
    "status",  # GET /v2/requests/{id}/status
    "result",  # GET /v2/requests/{id}
    "file",  # GET /generations/...
    "history",  # GET /inference-request/request-history
    "record",  # GET /inference-request/request-history/{id}
    "credits",  # GET /v1/get-user-credits
    "upload",  # POST /upload-asset
    "asset",  # GET /assets/...
    "unknown",  # anything else
)


@dataclass(slots=True)
class EmulatorResponse:
    """
    A response that has not been sent yet.

    :param status: the HTTP status
    :param headers: the headers with lower-case names, without ``content-length``
    :param body: the body
    :param cut_at: declare the full length, send this many bytes of the body, then close the connection
    :param chunked: declare no length
    :param pause: send the body byte by byte, this many seconds apart
    :param endless: repeat the body until the client disconnects
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_at: int | None = None
    chunked: bool = False
    pause: float | None = None
    endless: bool = False

    @classmethod
    def of_json(cls, status: int, value: Any, headers: dict[str, str] | None = None) -> EmulatorResponse:
        """
        Build a JSON response.

        :param status: the HTTP status
        :param value: the body
        :param headers: additional headers
        """
        return cls(status, {"content-type": "application/json", **(headers or {})}, json.dumps(value).encode())

    def json(self) -> Any:
        """Return the body's JSON value, or ``None`` if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class ConnectionCut(Exception):  # noqa: N818 - an instruction to the gateway, not an error
    """Raised by a fault: close the connection without a response."""


@dataclass(slots=True)
class EmulatorRequest:
    """
    One request.

    :param kind: one of :data:`REQUEST_KINDS`
    :param model: the model of a submit, or of the job that the request is about
    :param job: the job that the request is about
    :param raw: the body
    :param payload: the body's JSON value
    :param image: the identity of its input image, see :func:`~airflow_provider_segmind.emulator.jobs.image_identity`
    :param source: the text in which a fault's ``image`` is searched
    :param plan: what faults have decided about the job that this request creates
    :param files: the folder of the result files
    :param disconnected: returns once the client has disconnected
    """

    kind: str
    model: str | None
    job: Job | None
    raw: bytes
    payload: Any
    image: str
    source: str
    files: Path
    disconnected: Callable[[], Awaitable[None]]
    plan: JobPlan = field(default_factory=JobPlan)
