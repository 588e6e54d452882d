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

from airflow_provider_segmind.emulator.control_endpoints import ControlEndpoints
from airflow_provider_segmind.emulator.endpoints import Endpoints, error_response
from airflow_provider_segmind.emulator.faults import Faults
from airflow_provider_segmind.emulator.gateway import Cut, Gateway
from airflow_provider_segmind.emulator.history_endpoints import HistoryEndpoints
from airflow_provider_segmind.emulator.job_runner import JobRunner
from airflow_provider_segmind.emulator.jobs import JobStore
from airflow_provider_segmind.emulator.request_log import RequestLog
from airflow_provider_segmind.emulator.settings import Settings

HISTORY_PATH = "/inference-request/request-history"


class EmulatorApp:
    """
    The application; it opens its folder when the server starts.

    :param settings: the emulator's options
    :param folder: where jobs and files are kept
    :param faults: the fault switches
    :param requests: the request log
    :param cut: closes a client's connection
    """

    def __init__(self, settings: Settings, folder: Path, faults: Faults, requests: RequestLog, cut: Cut) -> None:
        self._settings = settings
        self._folder = folder
        self._faults = faults
        self._requests = requests
        self._cut = cut
        self._gateway: ASGIApp | None = None
        self.store: JobStore | None = None
        self._starlette = Starlette(lifespan=self._lifespan, exception_handlers={HTTPException: _route_error})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the server's startup and shutdown."""
        # Requests are cancelled only at shutdown, when their connections have been closed already.
        with suppress(asyncio.CancelledError):
            await (self._gateway or self._starlette)(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        runner = JobRunner(self._settings, self._folder)
        api, history = Endpoints(self._settings, runner, self._folder), HistoryEndpoints(runner.store)
        # Each route's name is its kind of request, which the request log and the faults use.
        app.router.routes += [
            Route("/v1/get-user-credits", api.credits, name="credits"),
            Route("/v1/requests/{request_id}", api.result, name="result"),
            Route("/v1/{model}", api.sync, methods=["POST"], name="sync"),
            Route("/v2/requests/{request_id}/status", api.status, name="status"),
            Route("/v2/requests/{request_id}", api.result, name="result"),
            Route("/v2/{model}", api.submit, methods=["POST"], name="submit"),
            Route("/generations/{name}", api.file, name="file"),
            Route("/upload-asset", api.upload, methods=["POST"], name="upload"),
            Route("/assets/{name}", api.asset, name="asset"),
            Route(HISTORY_PATH, history.list, name="history"),
            Route(f"{HISTORY_PATH}/{{request_id}}", history.record, name="record"),
            *ControlEndpoints(runner, self._faults, self._requests).routes(),
        ]
        self.store = runner.store
        self._gateway = Gateway(app, app.routes, self._settings, runner.store, self._faults, self._requests, self._cut)
        runner.resume()
        yield
        await runner.close()


async def _route_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        page = (
            "<!doctype html>\n<html lang=en>\n<title>405 Method Not Allowed</title>\n"
            "<h1>Method Not Allowed</h1>\n<p>The method is not allowed for the requested URL.</p>\n"
        )
        return HTMLResponse(page, 405)
    return error_response(status, "Not found" if status == 404 else "Error")
