"""The emulated service as one ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_segmind.emulator.control import Control
from airflow_provider_segmind.emulator.faults import Faults
from airflow_provider_segmind.emulator.gateway import Cut, Gateway
from airflow_provider_segmind.emulator.history import History
from airflow_provider_segmind.emulator.jobs import JobStore
from airflow_provider_segmind.emulator.request_log import RequestLog
from airflow_provider_segmind.emulator.service import Service, refuse
from airflow_provider_segmind.emulator.settings import Settings
from airflow_provider_segmind.emulator.work import Workshop

HISTORY = "/inference-request/request-history"


class EmulatorApp:
    """
    The application; it opens its folder when the server starts.

    :param settings: the emulator's options
    :param folder: where jobs and files are kept
    :param faults: the switches
    :param requests: where requests are noted
    :param cut: closes the connection of a client
    """

    def __init__(self, settings: Settings, folder: Path, faults: Faults, requests: RequestLog, cut: Cut) -> None:
        self._settings = settings
        self._folder = folder
        self._faults = faults
        self._requests = requests
        self._cut = cut
        self._gateway: ASGIApp | None = None
        self.store: JobStore | None = None
        self._starlette = Starlette(lifespan=self._lifespan, exception_handlers={HTTPException: _refuse_route})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the server's start and end."""
        # Only the server's end cancels; by then the connection is cut and nobody waits for the answer.
        with suppress(asyncio.CancelledError):
            await (self._gateway or self._starlette)(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        workshop = Workshop(self._settings, self._folder)
        service, history = Service(self._settings, workshop, self._folder), History(workshop.store)
        # The name of a route is the kind of request that the log and the faults know it by.
        app.router.routes += [
            Route("/v1/get-user-credits", service.credits, name="credits"),
            Route("/v1/requests/{request_id}", service.result, name="result"),
            Route("/v1/{model}", service.sync, methods=["POST"], name="sync"),
            Route("/v2/requests/{request_id}/status", service.status, name="status"),
            Route("/v2/requests/{request_id}", service.result, name="result"),
            Route("/v2/{model}", service.submit, methods=["POST"], name="submit"),
            Route("/generations/{name}", service.file, name="file"),
            Route("/upload-asset", service.upload, methods=["POST"], name="upload"),
            Route("/assets/{name}", service.asset, name="asset"),
            Route(HISTORY, history.list, name="history"),
            Route(f"{HISTORY}/{{request_id}}", history.record, name="record"),
            *Control(workshop, self._faults, self._requests).routes(),
        ]
        self.store = workshop.store
        self._gateway = Gateway(
            app, app.routes, self._settings, workshop.store, self._faults, self._requests, self._cut
        )
        workshop.resume()
        yield
        await workshop.close()


async def _refuse_route(request: Request, error: Exception) -> Response:  # noqa: ARG001 - called so
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        page = (
            "<!doctype html>\n<html lang=en>\n<title>405 Method Not Allowed</title>\n"
            "<h1>Method Not Allowed</h1>\n<p>The method is not allowed for the requested URL.</p>\n"
        )
        return HTMLResponse(page, 405)
    return refuse(status, "Not found" if status == 404 else "Error")
