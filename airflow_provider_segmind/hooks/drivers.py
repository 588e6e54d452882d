"""
How operations are run: an asynchronous driver, and a synchronous one for workers.

``Request.max_seconds`` bounds the whole exchange. The timeouts of HTTP clients cannot: they bound the silence between
two pieces of a response, so a server that sends a byte now and then could hold a request forever. An event loop can
cancel an exchange at any point, but nothing can interrupt a blocking socket. So the synchronous driver sends its
requests on an event loop too, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar
from weakref import finalize

from airflow_provider_segmind.api.operation import Operation, Pause, RenewKey, Request, Response, Step, TransportFailure
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.transport import MAX_CONNECTIONS, HttpxSender, TriggererSender

T = TypeVar("T")
_Outcome = Response | TransportFailure | bool | None

SLOT_SECONDS = 30.0
"""Seconds that a request may wait for a free connection, but never more than half of its time: a POST that is sent at
the last moment would end as a submit with an unknown outcome."""

LARGE_BODY = 256 * 1024
"""Bytes. An operation reads a larger body in a thread, because parsing 10 MB of JSON would block the event loop."""


def _advance(operation: Operation[T], outcome: _Outcome) -> tuple[Step | None, T | None]:
    """Return an operation's next step, or ``None`` and its value: ``StopIteration`` cannot leave a thread's future."""
    try:
        if isinstance(outcome, TransportFailure):
            return operation.throw(outcome), None
        return operation.send(outcome), None
    except StopIteration as stop:
        return None, stop.value


class AsyncDriver:
    """
    Runs operations on an event loop; one driver serves all jobs of a connection there.

    :param api: sends the requests that need the key; by default as a triggerer does
    :param renew_key: looks the connection up, and returns whether it has another key than before
    """

    def __init__(
        self,
        settings: SegmindSettings,
        api: HttpxSender | None = None,
        renew_key: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._api = api or TriggererSender(settings)
        self._files = HttpxSender(settings, with_key=False)
        self._renew_key = renew_key

    async def close(self) -> None:
        """Close the clients."""
        await self._api.close()
        await self._files.close()

    def use_key(self, key: str) -> None:
        """Send another key from now on, and forget the one before."""
        self._settings = replace(self._settings, api_key=key)
        for sender in (self._api, self._files):
            sender.routing.key = key

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its value."""
        outcome: _Outcome = None
        try:
            while True:
                if isinstance(outcome, Response) and len(outcome.body) > LARGE_BODY:
                    step, value = await asyncio.to_thread(_advance, operation, outcome)
                else:
                    step, value = _advance(operation, outcome)
                if step is None:
                    return value  # type: ignore[return-value]
                outcome = None  # a wait keeps as little as possible: the garbage collector visits all of it
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                else:
                    outcome = await self.perform(step)
        finally:
            with suppress(ValueError):  # cancelled while a thread runs it; the operation ends with that thread
                operation.close()

    async def perform(self, step: Step) -> _Outcome:
        """Make a pause, or send a request; that takes at most its ``max_seconds``."""
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, RenewKey):
            return self._renew_key is not None and await self._renew_key()
        try:
            return await self._send(step)
        except TransportFailure as failure:
            return failure

    async def _send(self, request: Request) -> Response:
        sender = self._api if request.with_key else self._files
        # Connecting may take half of the time, so that a failure to connect ends as what it is: nothing was sent.
        connect = min(self._settings.connect_timeout, request.max_seconds / 2)
        ends = asyncio.get_running_loop().time() + request.max_seconds
        await self._take_connection(request.max_seconds)
        try:
            async with asyncio.timeout_at(ends):
                return await sender.send(request, connect, request.read_timeout or self._settings.read_timeout)
        except TimeoutError:
            said = f"{sender.place(request.url)}: no complete response within {request.max_seconds:g} s"
            raise TransportFailure(said, sent=True) from None
        finally:
            self._slots.release()

    async def _take_connection(self, max_seconds: float) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        seconds = min(SLOT_SECONDS, max_seconds / 2)
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise TransportFailure(f"no free connection within {seconds:g} s", sent=False) from None


class SyncDriver:
    """
    Runs operations in the calling thread, and performs their steps on an event loop in a thread of its own.

    Several threads can use it at once. Its thread ends when it is closed, or when nobody holds it any more.

    :param renew_key: looks the connection up, and returns the key if it is another one than before
    """

    def __init__(self, settings: SegmindSettings, renew_key: Callable[[], str | None] = lambda: None) -> None:
        self._settings = settings
        self._renew_key = renew_key
        self._start()

    def _start(self) -> None:
        driver = AsyncDriver(self._settings, HttpxSender(self._settings, with_key=True))
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def serve() -> None:  # does not hold this object, so that it can become garbage and end the thread
            stopped = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stopped))
            await stopped.wait()
            await driver.close()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="segmind-http", daemon=True)
        self._thread.start()
        self._loop, stopped = started.result()
        self._driver = driver
        self._process = os.getpid()
        self._stop = finalize(self, self._loop.call_soon_threadsafe, stopped.set)

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._stop()
        self._thread.join(timeout=5.0)  # not longer: a resolver that hangs keeps the loop from ending

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its value."""
        if self._process != os.getpid():  # a fork does not take the thread along
            # Both processes have the same epoll object: to close the parent's loop here would stop it there.
            _inherited.append(self._loop)
            self._stop.detach()
            self._start()
        outcome: _Outcome = None
        try:
            while True:
                step, value = _advance(operation, outcome)
                if step is None:
                    return value  # type: ignore[return-value]
                if isinstance(step, RenewKey):
                    outcome = self._use_renewed_key()
                    continue
                performing = asyncio.run_coroutine_threadsafe(self._driver.perform(step), self._loop)
                try:
                    outcome = performing.result()
                finally:  # a signal can raise Airflow's execution timeout while this thread waits
                    performing.cancel()
        finally:
            operation.close()

    def _use_renewed_key(self) -> bool:
        key = self._renew_key()
        if key is not None:
            self._settings = replace(self._settings, api_key=key)  # a forked process starts with these
            self._driver.use_key(key)
        return key is not None


_inherited: list[asyncio.AbstractEventLoop] = []
