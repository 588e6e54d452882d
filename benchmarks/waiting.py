"""
What it costs one process to wait for many jobs: CPU per request, late polls, a blocked event loop, connections, memory.

Each way to wait runs in a fresh process, against the same fake service. Polls are 5 s apart (1 s where a way says so), so
what is compared is the cost of a poll and not how many of them a schedule makes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.fake_service import MODEL, ask, fake_service, request_id

KEY = "SG_0123456789abcdef"
TICK = 0.02
LONGEST = 7200.0
Wait = Callable[[str, str, float], Awaitable[None]]
"""Waits for the job with an id at a base URL, polling every so many seconds."""


@dataclass(frozen=True)
class Measurement:
    """What one process needed, in the time that was measured."""

    way: str
    jobs: int
    poll_interval: float
    requests: int
    cpu_per_request: float  # milliseconds
    core: float  # the share of one core
    late_p50: float  # seconds by which polls came later than they were due
    late_p99: float
    lag_p50: float  # seconds for which the event loop did not run a task that was due
    lag_p99: float
    connections: int
    megabytes: float  # resident, of the whole process
    lags: list[tuple[float, float]] = field(default_factory=list, repr=False)  # when, and how much


async def provider(base_url: str, job: str, interval: float) -> None:
    """Wait with this project's trigger."""
    from airflow_provider_segmind.triggers.segmind import SegmindJobTrigger

    now = time.time()
    trigger = SegmindJobTrigger(job, MODEL, "segmind_default", now, now + LONGEST, poll_interval=interval)
    await anext(trigger.run())


_shared: Any = None


async def bare_aiohttp(base_url: str, job: str, interval: float) -> None:
    """Poll with one shared client of aiohttp, and nothing else: the least that a wait can cost."""
    import aiohttp

    global _shared
    if _shared is None:
        connector = aiohttp.TCPConnector(limit=32)
        _shared = aiohttp.ClientSession(connector=connector, headers={"x-api-key": KEY})
    while True:
        await asyncio.sleep(interval)
        async with _shared.get(f"{base_url}/v2/requests/{job}/status") as response:
            if (await response.json())["status"] == "COMPLETED":
                return


async def client_per_poll(base_url: str, job: str, interval: float) -> None:
    """Poll with a new client of httpx for each poll, as the triggers of many providers do."""
    import httpx

    while True:
        await asyncio.sleep(interval)
        async with httpx.AsyncClient(headers={"x-api-key": KEY}) as client:
            response = await client.get(f"{base_url}/v2/requests/{job}/status")
        if response.json()["status"] == "COMPLETED":
            return


async def http_sensor(base_url: str, job: str, interval: float) -> None:
    """Wait with the trigger of Airflow's HttpSensor, which polls until a request succeeds."""
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    trigger = HttpSensorTrigger(
        endpoint=f"v2/requests/{job}/unfinished",
        http_conn_id="benchmark_http",
        method="GET",
        headers={"x-api-key": KEY},
        poke_interval=interval,
    )
    await anext(trigger.run())


WAYS: dict[str, tuple[str, Wait]] = {
    "provider": ("this project's trigger", provider),
    "aiohttp": ("bare aiohttp, one client", bare_aiohttp),
    "client": ("a trigger with a new httpx client per poll", client_per_poll),
    "sensor": ("HttpSensor, deferrable", http_sensor),
}


async def _run(wait: Wait, base_url: str, jobs: int, interval: float, seconds: float) -> dict[str, Any]:
    now = time.time()
    ids = [request_id(now, LONGEST, number) for number in range(jobs)]

    async def start(job: str) -> None:
        await asyncio.sleep(random.random() * interval)
        await wait(base_url, job, interval)

    lags: list[tuple[float, float]] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            lags.append((time.perf_counter() - began, time.perf_counter() - due))

    began = time.perf_counter()
    tasks = [asyncio.create_task(start(job)) for job in ids]
    tasks.append(asyncio.create_task(tick()))
    await asyncio.sleep(2 * interval + 1)
    await asyncio.to_thread(ask, base_url, "/reset")
    lags.clear()
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    found = {"cpu": cpu, "wall": wall, "lags": lags, "seen": await asyncio.to_thread(ask, base_url, "/statistics")}
    found["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if _shared is not None:
        await _shared.close()
    return found


def _process(answer: Connection, way: str, base_url: str, jobs: int, interval: float, seconds: float) -> None:
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    connection = {"conn_type": "segmind", "host": base_url, "password": KEY}
    os.environ["AIRFLOW_CONN_SEGMIND_DEFAULT"] = json.dumps(connection)
    os.environ["AIRFLOW_CONN_BENCHMARK_HTTP"] = json.dumps({"conn_type": "http", "host": base_url})
    answer.send(asyncio.run(_run(WAYS[way][1], base_url, jobs, interval, seconds)))


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else float("nan")


def measure(way: str, jobs: int, *, poll_interval: float = 5.0, seconds: float = 15.0) -> Measurement:
    """Measure one way to wait in a fresh process."""
    processes = multiprocessing.get_context("spawn")
    with fake_service() as base_url:
        ours, theirs = processes.Pipe()
        process = processes.Process(target=_process, args=(theirs, way, base_url, jobs, poll_interval, seconds))
        process.start()
        found = ours.recv()
        process.join()
    seen = found["seen"]
    requests = sum(seen["requests"].values())
    late = [
        after - before - poll_interval
        for polls in seen["polls"].values()
        for before, after in zip(polls, polls[1:], strict=False)
    ]
    lags = [lag for _, lag in found["lags"]]
    return Measurement(
        way,
        jobs,
        poll_interval,
        requests,
        1000 * found["cpu"] / max(requests, 1),
        found["cpu"] / found["wall"],
        _quantile(late, 0.5),
        _quantile(late, 0.99),
        _quantile(lags, 0.5),
        _quantile(lags, 0.99),
        seen["connections"],
        found["megabytes"],
        found["lags"],
    )


def main() -> None:
    """Measure some ways and print what each needed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=10_000)
    arguments.add_argument("--seconds", type=float, default=15.0)
    arguments.add_argument("--interval", type=float, default=5.0)
    arguments.add_argument("ways", nargs="*", default=list(WAYS))
    given = arguments.parse_args()
    for way in given.ways:
        found = measure(way, given.jobs, poll_interval=given.interval, seconds=given.seconds)
        print(
            {
                name: round(value, 4) if isinstance(value, float) else value
                for name, value in asdict(found).items()
                if name != "lags"
            },
            flush=True,
        )


if __name__ == "__main__":
    main()
