"""
The ways to wait for a job that are compared.

Each way is a context manager. It opens what its waits share in a process and gives a function that waits for one job.
Ways with one shared client keep at most as many requests under way as this project does, in a queue of their own,
since the queue of httpx's connection pool becomes slow when it is long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.fake_service import MODEL

KEY = "SG_0123456789abcdef"
HEADERS = {"x-api-key": KEY}
CONNECTIONS = 32
DEADLINE = 7200.0

Wait = Callable[[str, float | None], Coroutine[Any, Any, None]]
"""
Waits for the job with an id. The number is the seconds between two polls, and ``None`` asks for this project's adaptive
schedule.
"""


def poll_with(get: Callable[[str], Awaitable[Any]], base_url: str) -> Wait:
    """Return a wait that polls at a fixed interval. ``get`` returns the JSON at a URL."""

    async def wait(job: str, interval: float | None) -> None:
        assert interval is not None
        while True:
            await asyncio.sleep(interval)
            if (await get(f"{base_url}/v2/requests/{job}/status"))["status"] == "COMPLETED":
                return

    return wait


@asynccontextmanager
async def provider(_: str) -> AsyncIterator[Wait]:
    """Wait with this project's trigger, which finds the base URL in its connection."""
    from airflow_provider_segmind.triggers.segmind import SegmindJobTrigger

    async def wait(job: str, interval: float | None) -> None:
        now = time.time()
        trigger = SegmindJobTrigger(job, MODEL, "segmind_default", now, now + DEADLINE, poll_interval=interval)
        await anext(trigger.run())

    yield wait


@asynccontextmanager
async def shared_aiohttp(base_url: str) -> AsyncIterator[Wait]:
    """Poll with one client of aiohttp and nothing else: the least that a wait can cost."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as client:

        async def get(url: str) -> Any:
            async with client.get(url) as response:
                return await response.json()

        yield poll_with(get, base_url)


@asynccontextmanager
async def shared_httpx(base_url: str) -> AsyncIterator[Wait]:
    """Poll with one client of httpx."""
    import httpx

    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(headers=HEADERS, limits=limits) as client:
        yield poll_with(_json_of(client), base_url)


@asynccontextmanager
async def shared_httpx_aiohttp(base_url: str) -> AsyncIterator[Wait]:
    """Poll with one client of httpx that sends its requests with aiohttp."""
    import httpx
    import httpx_aiohttp

    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(headers=HEADERS, transport=httpx_aiohttp.AiohttpTransport(limits=limits)) as client:
        yield poll_with(_json_of(client), base_url)


@asynccontextmanager
async def shared_httpx2(base_url: str) -> AsyncIterator[Wait]:
    """Poll with one client of httpx2, the successor of httpx."""
    import httpx2

    limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx2.AsyncClient(headers=HEADERS, limits=limits) as client:
        yield poll_with(_json_of(client), base_url)


def _json_of(client: Any) -> Callable[[str], Awaitable[Any]]:
    """Return a function that returns the JSON at a URL, and lets at most ``CONNECTIONS`` requests go at once."""
    free = asyncio.Semaphore(CONNECTIONS)

    async def get(url: str) -> Any:
        async with free:
            return (await client.get(url)).json()

    return get


@asynccontextmanager
async def httpx_per_poll(base_url: str) -> AsyncIterator[Wait]:
    """Poll with a new client of httpx each time, as a trigger is often written."""
    import httpx

    async def get(url: str) -> Any:
        async with httpx.AsyncClient(headers=HEADERS) as client:
            return (await client.get(url)).json()

    yield poll_with(get, base_url)


@asynccontextmanager
async def http_sensor(_: str) -> AsyncIterator[Wait]:
    """
    Wait with the trigger of Airflow's HttpSensor.

    It fires on the first response that is not a 404, so it could not wait for a job at Segmind, where the status of a
    running job is a 200. Here it polls a path that answers 404 until the job ends.
    """
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    async def wait(job: str, interval: float | None) -> None:
        assert interval is not None
        endpoint = f"v2/requests/{job}/unfinished"
        trigger = HttpSensorTrigger(endpoint, "benchmark_http", "GET", headers=HEADERS, poke_interval=interval)
        await anext(trigger.run())

    yield wait


@dataclass(frozen=True)
class Way:
    """
    A way to wait.

    :param name: in tables
    :param short: in plots and on the command line
    :param open: opens what its waits share, given the base URL
    :param package: what is to be installed for it, if the development environment does not have it
    :param most_jobs: with more jobs its event loop would not come to an end of its work, so nothing could be measured
    """

    name: str
    short: str
    open: Callable[[str], AbstractAsyncContextManager[Wait]]
    package: str | None = None
    most_jobs: int | None = None


WAYS = {
    way.short: way
    for way in (
        Way("`SegmindJobTrigger`", "provider", provider),
        Way("aiohttp, one client, nothing else", "aiohttp", shared_aiohttp),
        Way("httpx over httpx-aiohttp, one client", "httpx-aiohttp", shared_httpx_aiohttp, "httpx-aiohttp"),
        Way("httpx2, one client", "httpx2", shared_httpx2, "httpx2"),
        Way("httpx, one client", "httpx", shared_httpx),
        Way("`HttpSensor`'s trigger", "http-sensor", http_sensor),
        Way("httpx, a new client for each poll", "httpx-per-poll", httpx_per_poll, most_jobs=100),
    )
}
"""The ways to wait by their short names; this project's first, then the others by what a poll costs."""
