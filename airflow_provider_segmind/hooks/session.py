"""
What all operations of a connection share in a process.

On an event loop, such as a triggerer's with thousands of waits, they share a session: the look-up of the connection,
the clients and the queue in front of them. The first user opens it. It stays open for a while after the last one, so
that the next job finds it open, and it ends with its loop. What was learned about the service, the rate limit and how
long jobs take, is kept for the life of the process, also where each operation runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self
from weakref import WeakKeyDictionary

from airflow_provider_segmind.api.operation import ApiContext, account_fingerprint
from airflow_provider_segmind.api.poll_schedule import LatencyMemory
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.drivers import AsyncDriver
from airflow_provider_segmind.hooks.transport import load_aiohttp

IDLE_SECONDS = 60.0
"""A session that nobody has used for so long is closed."""

LOOK_UP_SECONDS = 60.0
"""A session whose connection was looked up longer ago looks it up again for its next user, who may have edited it."""

RENEW_SECONDS = 10.0
"""The connection is looked up after a 401 at most this often: with a revoked key, each waiting job gets a 401."""

LookUp = Callable[[], Awaitable[SegmindSettings]]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Learned:
    """What this process has learned about a connection's service."""

    limiter: RateLimiter = field(default_factory=RateLimiter)
    latencies: LatencyMemory = field(default_factory=LatencyMemory)


_lock = threading.Lock()
_learned: dict[tuple[str, str], _Learned] = {}
_connections: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _SharedConnection]] = WeakKeyDictionary()


def context_for(conn_id: str, settings: SegmindSettings) -> ApiContext:
    """Return a context for operations; all contexts of a connection share one limiter and one latency memory."""
    with _lock:
        learned = _learned.setdefault((conn_id, settings.base_url), _Learned())
    learned.limiter.configure(settings.requests_per_minute)
    return ApiContext(
        base_url=settings.base_url,
        history_url=settings.history_url,
        storage_url=settings.storage_url,
        output_hosts=settings.output_hosts,
        max_result_bytes=int(settings.max_result_mb * 1024**2),
        limiter=learned.limiter,
        latencies=learned.latencies,
        secrets=[settings.api_key],
        account=account_fingerprint(settings.base_url, settings.api_key),
    )


def _forget() -> None:
    """Start afresh in a forked process: the parent's loops do not run here, and its locks may be held forever."""
    global _lock
    _lock = threading.Lock()
    _learned.clear()
    _connections.clear()


os.register_at_fork(after_in_child=_forget)


def new_key(old: SegmindSettings, new: SegmindSettings) -> str | None:
    """Return the key of settings that were read again, if it has changed and nothing else has."""
    changed = new.api_key != old.api_key and new == replace(old, api_key=new.api_key)
    return new.api_key if changed else None


class Session:
    """
    A connection's settings, the context of its operations, and the driver that runs them, on one event loop.

    As a context manager it stays open: ``with await session_for(...) as session``.

    :param look_up: reads the connection again, after a 401
    """

    def __init__(self, conn_id: str, settings: SegmindSettings, look_up: LookUp) -> None:
        self.settings = settings
        self.api = context_for(conn_id, settings)
        self.driver = AsyncDriver(settings, renew_key=self._renew_key)
        self._look_up = look_up
        self._renewing = asyncio.Lock()
        self._renew_after = 0.0
        self._key_is_new = False
        self._users = 0
        self._used_at = _now()

    def __enter__(self) -> Self:
        """Keep the session open."""
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        self._used_at = _now()

    async def wait_until_idle(self) -> None:
        """Return when nobody has used the session for ``IDLE_SECONDS``."""
        while self._users or _now() < self._used_at + IDLE_SECONDS:  # noqa: ASYNC110 - it wakes once a minute
            await asyncio.sleep(IDLE_SECONDS if self._users else self._used_at + IDLE_SECONDS - _now())

    def use_settings(self, settings: SegmindSettings) -> bool:
        """Take over settings that were read again, and return whether they fit: only the key may have changed."""
        if key := new_key(self.settings, settings):
            self.settings = settings
            self.driver.use_key(key)
            self.api.secrets[:] = [key]
        return settings == self.settings

    async def _renew_key(self) -> bool:
        async with self._renewing:
            if _now() >= self._renew_after:
                before = self.settings.api_key
                with suppress(Exception):  # the 401 stands, and whoever stores the result reports it
                    async with asyncio.timeout(RENEW_SECONDS / 2):
                        self.use_settings(await self._look_up())
                self._key_is_new = self.settings.api_key != before
                self._renew_after = _now() + RENEW_SECONDS
            return self._key_is_new


def _now() -> float:
    return asyncio.get_running_loop().time()


class _SharedConnection:
    """Looks one connection up for all its users on an event loop, and holds the session that they share."""

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._session: Session | None = None
        self._looked_up_at = 0.0
        self._looking_up: asyncio.Task[None] | None = None
        self._keepers: set[asyncio.Task[None]] = set()

    async def session(self, look_up: LookUp) -> Session:
        """Return the session. Whoever comes while the connection is being looked up waits for the same look-up."""
        if self._looking_up is None and (self._session is None or _now() > self._looked_up_at + LOOK_UP_SECONDS):
            self._looking_up = asyncio.create_task(self._look_up(look_up))
            self._looking_up.add_done_callback(self._looked_up)
        if self._looking_up is not None:
            await asyncio.shield(self._looking_up)  # a trigger that is cancelled does not end it for the others
        assert self._session is not None  # noqa: S101 - the look-up has opened it or has raised
        return self._session

    async def _look_up(self, look_up: LookUp) -> None:
        try:
            settings = await look_up()
        except Exception as error:
            if self._session is None:
                raise
            log.warning(
                "The connection %r cannot be read again (%s). Its jobs go on with what was read before.",
                self._conn_id,
                redact(f"{type(error).__name__}: {error}", limit=200),
            )
            settings = self._session.settings
        if self._session is None or not self._session.use_settings(settings):
            await asyncio.to_thread(load_aiohttp)  # its import would block the loop for 0.2 s
            self._session = Session(self._conn_id, settings, look_up)
            keeper = asyncio.create_task(self._keep(self._session))
            self._keepers.add(keeper)
            keeper.add_done_callback(self._keepers.discard)
        self._looked_up_at = _now()

    def _looked_up(self, task: asyncio.Task[None]) -> None:
        self._looking_up = None
        if not task.cancelled():
            task.exception()  # all who waited for it may have been cancelled

    async def _keep(self, session: Session) -> None:
        """Close a session when it is idle, or when the loop ends, which cancels this."""
        try:
            await session.wait_until_idle()
        finally:
            if self._session is session:
                self._session = None
            await session.driver.close()


async def session_for(conn_id: str, look_up: LookUp) -> Session:
    """
    Return the session of a connection on the running event loop. Use it as a context manager.

    :param look_up: reads the connection
    :raises Exception: what ``look_up`` raises, if the connection has not been read before
    """
    connections = _connections.setdefault(asyncio.get_running_loop(), {})
    return await connections.setdefault(conn_id, _SharedConnection(conn_id)).session(look_up)
