"""One request to the emulated service and its answer, as the faults see them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_segmind.emulator.jobs import Job, Plan

Proceed = Callable[[], Awaitable["Answer"]]

KINDS = (
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
class Answer:
    """
    An answer that has not been sent yet.

    :param status: the HTTP status
    :param headers: the headers, names in lower case, without ``content-length``
    :param body: the body
    :param cut_at: send this many bytes of the body, whose whole length was declared, then cut the connection
    :param chunked: declare no length
    :param pause: send the body in small pieces, this many seconds apart
    :param endless: repeat the body until the client goes away
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_at: int | None = None
    chunked: bool = False
    pause: float | None = None
    endless: bool = False

    @classmethod
    def of_json(cls, status: int, value: Any, headers: dict[str, str] | None = None) -> Answer:
        """
        Make an answer of a JSON value.

        :param status: the HTTP status
        :param value: the body
        :param headers: further headers
        """
        return cls(status, {"content-type": "application/json", **(headers or {})}, json.dumps(value).encode())

    def json(self) -> Any:
        """Return the body's JSON value, ``None`` where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class ConnectionCut(Exception):  # noqa: N818 - an order to the gateway, nothing went wrong
    """Thrown by a fault: close the connection without an answer."""


@dataclass(slots=True)
class Call:
    """
    One request.

    :param kind: one of :data:`KINDS`
    :param method: the HTTP verb
    :param path: the path
    :param model: the model of a submit or of the job that is asked about
    :param job: the job that is asked about
    :param raw: the body
    :param payload: the body's JSON value
    :param image: what tells its image from another
    :param source: the text that a fault's ``image`` is looked for in
    :param plan: what faults decide about the job that this request creates
    :param files: the folder of the result files
    :param disconnected: returns once the client has gone away
    """

    kind: str
    method: str
    path: str
    model: str | None
    job: Job | None
    raw: bytes
    payload: Any
    image: str
    source: str
    files: Path
    disconnected: Callable[[], Awaitable[None]]
    plan: Plan = field(default_factory=Plan)
