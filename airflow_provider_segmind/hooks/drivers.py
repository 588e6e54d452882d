"""
The two drivers: a flow's requests over httpx, its pauses on a clock; synchronous and asynchronous.

Everything that differs between the two worlds is in this file, and only that.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

import httpx

from airflow_provider_segmind.api.flow import Answer, Flow, Pause, Send, Step, TransportFailure
from airflow_provider_segmind.hooks.exchange import (
    FAILURES,
    MAX_CONNECTIONS,
    Body,
    Driver,
    client_options,
    key_to_own_origins,
)
from airflow_provider_segmind.hooks.settings import SegmindSettings

T = TypeVar("T")

SLOT_SECONDS = 30.0
"""So long a request waits for one of the connections: behind a server that swallows all, a thousand would for hours."""

LARGE_ANSWER = 256 * 1024
"""The event loop does not wait while a flow reads a body larger than this: 10 MB of JSON can take seconds."""


class SyncDriver(Driver[httpx.Client]):
    """Runs flows in a worker: one client, one thread."""

    def __init__(self, settings: SegmindSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        options = client_options(settings)
        attach = {"request": [key_to_own_origins(settings)]}
        api = httpx.Client(base_url=settings.base_url, event_hooks=attach, **options)
        super().__init__(settings, api, httpx.Client(**options))
        self._sleep = sleep
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self._files.close()

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its value."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    self._sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    answer = self._send(step)
                except TransportFailure as failure:
                    step = flow.throw(failure)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            flow.close()

    def _send(self, step: Send) -> Answer:
        client, request, seconds = self.request(step)
        request.extensions["trace"] = self._note_socket
        try:
            with self._at_most(seconds):
                response = client.send(request, stream=True)
                try:
                    body = Body(step, response)
                    for chunk in response.iter_bytes():
                        if not body.take(chunk):
                            break
                finally:
                    response.close()
        except FAILURES as error:
            raise self.failure(error) from None
        return body.answer()

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._sockets.add(info["return_value"].get_extra_info("socket"))

    @contextmanager
    def _at_most(self, seconds: float) -> Iterator[None]:
        """
        End an exchange that takes too long in all, as httpx's timeouts between two pieces never end a trickle.

        Nothing but its sockets can wake a blocked thread. They outlive an exchange in the client's pool, so all of
        them are shut; but for this exchange they are idle.
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            for each in list(self._sockets):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except FAILURES:
            if not late.is_set():
                raise
        finally:
            timer.cancel()
            timer.join()  # it may just be at it: the next exchange's sockets are none of its business
        if late.is_set():  # also where the end of a shut connection has passed for that of a body
            raise TimeoutError(f"no whole answer within {seconds:g} s")


@dataclass(frozen=True, slots=True)
class _Return:
    """What a flow returned: a future cannot carry a ``StopIteration`` out of a thread."""

    value: Any


def _resume(flow: Flow[Any], answer: Answer) -> Step | _Return:
    try:
        return flow.send(answer)
    except StopIteration as stop:
        return _Return(stop.value)


class AsyncDriver(Driver[httpx.AsyncClient]):
    """Runs flows on an event loop: one client for all jobs of a connection there."""

    def __init__(self, settings: SegmindSettings, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        options = client_options(settings)
        attach = key_to_own_origins(settings)

        async def attach_key(request: httpx.Request) -> None:
            attach(request)

        api = httpx.AsyncClient(base_url=settings.base_url, event_hooks={"request": [attach_key]}, **options)
        super().__init__(settings, api, httpx.AsyncClient(**options))
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._sleep = sleep

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        await self._files.aclose()

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its value."""
        step: Step | _Return
        try:
            step = next(flow)
            while not isinstance(step, _Return):
                if isinstance(step, Pause):
                    await self._sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    answer = await self._send(step)
                except TransportFailure as failure:
                    step = flow.throw(failure)
                else:
                    if len(answer.body) <= LARGE_ANSWER:
                        step = flow.send(answer)
                    else:
                        step = await asyncio.to_thread(_resume, flow, answer)
        except StopIteration as stop:
            step = _Return(stop.value)
        finally:
            with suppress(ValueError):  # cancelled while a thread runs it: it ends once nobody holds it any more
                flow.close()
        value: T = step.value
        return value

    async def _send(self, step: Send) -> Answer:
        client, request, seconds = self.request(step)
        try:
            async with asyncio.timeout(SLOT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise TransportFailure(f"no free connection within {SLOT_SECONDS:g} s", sent=False) from None
        try:
            # Besides httpx's timeouts between two pieces, one for it all: a server that trickles gets no slot for ever.
            async with asyncio.timeout(seconds):
                response = await client.send(request, stream=True)
                try:
                    body = Body(step, response)
                    async for chunk in response.aiter_bytes():
                        if not body.take(chunk):
                            break
                finally:
                    await response.aclose()
        except FAILURES as error:
            raise self.failure(error) from None
        finally:
            self._slots.release()
        return body.answer()
