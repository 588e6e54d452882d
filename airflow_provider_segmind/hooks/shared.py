"""What all jobs of one connection share in one process: the limiter, the memory of latencies, one client for a loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from airflow_provider_segmind.api.rate_limit import Limiter
from airflow_provider_segmind.api.schedule import Latencies
from airflow_provider_segmind.api.service import Service
from airflow_provider_segmind.hooks.drivers import AsyncDriver
from airflow_provider_segmind.hooks.settings import SegmindSettings

_lock = threading.Lock()
_services: dict[SegmindSettings, Service] = {}
_drivers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[SegmindSettings, tuple[AsyncDriver, int]]] = (
    WeakKeyDictionary()
)


def service_for(settings: SegmindSettings) -> Service:
    """Return the connection's service, the same for the same settings in all of this process."""
    with _lock:
        return _services.setdefault(
            settings,
            Service(
                base_url=settings.base_url,
                history_url=settings.history_url,
                storage_url=settings.storage_url,
                output_hosts=settings.output_hosts,
                max_result_bytes=int(settings.max_result_mb * 1024**2),
                limiter=Limiter(settings.requests_per_minute),
                latencies=Latencies(),
                secrets=(settings.api_key,),
            ),
        )


@asynccontextmanager
async def driver_for(settings: SegmindSettings) -> AsyncIterator[AsyncDriver]:
    """Lend the running loop's driver for a connection: made for the first who asks, closed by the last who leaves."""
    drivers = _drivers.setdefault(asyncio.get_running_loop(), {})
    driver, users = drivers.get(settings) or (AsyncDriver(settings), 0)
    drivers[settings] = (driver, users + 1)
    try:
        yield driver
    finally:
        driver, users = drivers.pop(settings)
        if users > 1:
            drivers[settings] = (driver, users - 1)
        else:
            await driver.close()
