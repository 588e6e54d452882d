"""What every request passes before the service: the log, the faults, the key check and the rate limit."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_segmind.emulator.calls import KINDS, Answer, Call, ConnectionCut, Proceed
from airflow_provider_segmind.emulator.effects import EFFECTS
from airflow_provider_segmind.emulator.faults import Faults
from airflow_provider_segmind.emulator.jobs import Job, JobStore, image_identity, matchable_text
from airflow_provider_segmind.emulator.rate_limit import LIMITED_KINDS, RateLimit, iso_utc
from airflow_provider_segmind.emulator.request_log import RequestEntry, RequestLog
from airflow_provider_segmind.emulator.settings import Settings

PUBLIC_KINDS = ("file", "asset")
MAX_BODY = 200_000_000

Cut = Callable[[Any, bool], None]


class Gateway:
    """
    The ASGI application in front of the service.

    :param app: the service
    :param routes: its routes; the name of each is the kind of request
    :param settings: the emulator's options
    :param store: all jobs
    :param faults: the switches
    :param requests: where requests are noted
    :param cut: closes the connection of a client: at once, or once what was written has gone out
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[BaseRoute],
        settings: Settings,
        store: JobStore,
        faults: Faults,
        requests: RequestLog,
        cut: Cut,
    ) -> None:
        self._app = app
        self._routes = routes
        self._settings = settings
        self._store = store
        self._faults = faults
        self._requests = requests
        self._cut = cut
        self._limit = RateLimit(settings.requests_per_minute, settings.rate_window)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"].startswith("/emulator"):
            await self._app(scope, receive, send)
            return
        kind, parameters = self._classify(scope)
        headers = Request(scope).headers
        entry = RequestEntry(
            kind=kind,
            method=scope["method"],
            path=scope["path"],
            time=time.time(),
            has_key="x-api-key" in headers,
            has_authorization="authorization" in headers,
            user_agent=headers.get("user-agent", ""),
        )
        self._requests.add(entry)
        try:
            raw = await _read(receive) if scope["method"] == "POST" else b""
        except ConnectionCut:
            return
        if raw is None:
            await JSONResponse({"error": "Payload too large"}, 413)(scope, receive, send)
            return
        call = self._call(kind, parameters, scope, raw, receive)
        scope["emulator.call"] = call
        faults = self._faults.striking(call)
        if not faults:
            await self._guarded(scope, _replay(raw, receive), self._noting(entry, send))
            return
        entry.faults = [fault.name for fault in faults]
        proceed: Proceed = functools.partial(self._captured, scope, _replay(raw, receive))
        for fault in reversed(faults):
            proceed = functools.partial(EFFECTS[fault.name].run, call, proceed, **fault.options)
        try:
            answer = await proceed()
        except ConnectionCut:
            self._cut(scope["client"], True)
            await _until_gone(receive)
        else:
            if call.job is not None:  # a fault may have ended its record or its files
                self._store.save(call.job)
            await self._deliver(answer, scope, receive, self._noting(entry, send))

    def _classify(self, scope: Scope) -> tuple[str, Mapping[str, Any]]:
        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL and isinstance(route, Route) and route.name in KINDS:
                return route.name, child["path_params"]
        return "unknown", {}

    def _call(self, kind: str, parameters: Mapping[str, Any], scope: Scope, raw: bytes, receive: Receive) -> Call:
        job: Job | None = None
        if kind == "file":
            job = self._store.of_file(parameters["name"])
        elif "request_id" in parameters:
            job = self._store.get(parameters["request_id"])
        try:
            payload = json.loads(raw) if raw else None
        except (ValueError, RecursionError):
            payload = None
        image, source = (job.image, job.source) if job is not None else ("", "")
        if kind in ("submit", "sync") and isinstance(payload, dict):
            image, source = image_identity(payload), matchable_text(payload)
        return Call(
            kind=kind,
            method=scope["method"],
            path=scope["path"],
            model=parameters.get("model", job.model if job is not None else None),
            job=job,
            raw=raw,
            payload=payload,
            image=image,
            source=source,
            files=self._store.files,
            disconnected=functools.partial(_until_gone, receive),
        )

    def _noting(self, entry: RequestEntry, send: Send) -> Send:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.answered(entry, message["status"])
            await send(message)

        return noting

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["emulator.call"].kind
        refusal = None if kind in PUBLIC_KINDS else self._refuse_key(Request(scope).headers)
        if refusal is None and kind in LIMITED_KINDS and (until := self._limit.refuses_until()) is not None:
            refusal = JSONResponse({"error": "Rate limit exceeded"}, 429, {"x-rate-limit-reset-at-utc": iso_utc(until)})
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refuse_key(self, headers: Mapping[str, str]) -> Response | None:
        key = headers.get("x-api-key", "")
        if not key:
            return _unauthorized("missing_api_key", "An API key is required in the header x-api-key")
        if self._settings.key is not None and key != self._settings.key:
            return _unauthorized("invalid_api_key", "The API key is not valid")
        return None

    async def _captured(self, scope: Scope, receive: Receive) -> Answer:
        """Let the service handle the request and keep its answer back."""
        answer, body = Answer(500), bytearray()

        async def capture(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                answer.headers.pop("content-length", None)
            else:
                body.extend(message.get("body", b""))

        await self._guarded(scope, receive, capture)
        answer.body = bytes(body)
        return answer

    async def _deliver(self, answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(answer.headers)
        if not answer.chunked:
            headers["content-length"] = str(len(answer.body))
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            }
        )
        if answer.cut_at is not None:
            await send(_body(answer.body[: answer.cut_at], more=True))
            self._cut(scope["client"], False)
            await _until_gone(receive)
        elif answer.endless or answer.pause is not None:
            gone = asyncio.ensure_future(_until_gone(receive))
            await self._trickle(answer, gone, send)
            gone.cancel()
        else:
            await send(_body(answer.body))

    async def _trickle(self, answer: Answer, gone: asyncio.Future[None], send: Send) -> None:
        while answer.endless and not gone.done():
            await send(_body(answer.body, more=True))
            await asyncio.sleep(0)  # the other requests have their turn
        for number in range(0 if answer.endless else len(answer.body)):
            if gone.done():
                return
            await send(_body(answer.body[number : number + 1], more=True))
            await asyncio.wait([gone], timeout=answer.pause)
        if not gone.done():
            await send(_body(b""))


def _unauthorized(code: str, text: str) -> Response:
    return JSONResponse({"error": code, "error_description": text, "status_code": 401}, 401)


def _body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def _read(receive: Receive) -> bytes | None:
    """Return a request's body, ``None`` where it is too large; a client that goes away before its end asked nothing."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionCut
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replay(raw: bytes, receive: Receive) -> Receive:
    """Let the service read a body that has been read already."""
    pending = [raw]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
