"""Running single requests over either driver, against servers of the tests."""

from __future__ import annotations

import asyncio
import atexit
import socket

from airflow_provider_segmind.api.operation import Request, send
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.drivers import AsyncDriver, SyncDriver

KEY = "SG_0123456789abcdef"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: a=b; path=/\r\n\r\n{}"


def settings_for(url, *, read_timeout=5.0, **fields):
    return SegmindSettings(KEY, url, url, url, connect_timeout=1.0, read_timeout=read_timeout, **fields)


def run_sync(settings, operation):
    driver = SyncDriver(settings)
    try:
        return driver.run(operation)
    finally:
        driver.close()


def run_async(settings, operation):
    async def run():
        driver = AsyncDriver(settings)
        try:
            return await driver.run(operation)
        finally:
            await driver.close()

    return asyncio.run(run())


def requests_to(url, times=1, method="GET", **fields):
    """An operation that sends the same request some times over and returns the last response."""
    for _ in range(times):
        response = yield from send(Request(method, f"{url}/x", **fields))
    return response


def refusing_url():
    """Return a URL at which nobody listens. The port stays bound, so that no other process can get it meanwhile."""
    bound = socket.socket()
    atexit.register(bound.close)
    bound.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{bound.getsockname()[1]}"
