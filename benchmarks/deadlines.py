"""
How late the events of many triggers come that share a deadline, where the service answers and where it is silent.

An event may come 10 s after its deadline, because a last poll precedes it. With many jobs, all the last polls fall
together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.fake_service import MODEL, fake_service, request_id
from benchmarks.tables import table

WAIT = 20.0  # seconds from the start of the first trigger to the deadline of all
LONGEST = 7200.0
SERVICES = ("answers", "is silent")


@dataclass(frozen=True)
class Lateness:
    """How long after the deadline the events came, in seconds."""

    service: str  # one of SERVICES
    jobs: int
    median: float
    latest: float
    statuses: str  # of the events


@contextmanager
def silent_service() -> Iterator[str]:
    """Accept connections and never answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def _wait(jobs: int) -> tuple[list[float], list[str]]:
    from airflow_provider_segmind.triggers.segmind import SegmindJobTrigger

    now = time.time()
    late, statuses = [], []

    async def one(number: int) -> None:
        job = request_id(now, LONGEST, number)
        trigger = SegmindJobTrigger(job, MODEL, "segmind_default", now, now + WAIT, poll_interval=5.0)
        event = await anext(trigger.run())
        late.append(time.time() - trigger.deadline)
        statuses.append(event.payload["status"])

    await asyncio.gather(*map(one, range(jobs)))
    return late, statuses


def _process(answer: Connection, base_url: str, jobs: int) -> None:
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    connection = {"conn_type": "segmind", "host": base_url, "password": "SG_0123456789abcdef"}
    os.environ["AIRFLOW_CONN_SEGMIND_DEFAULT"] = json.dumps(connection)
    answer.send(asyncio.run(_wait(jobs)))


def measure(service: str, jobs: int) -> Lateness:
    """Let triggers with one deadline wait in a fresh process, for jobs that do not end."""
    processes = multiprocessing.get_context("spawn")
    with (fake_service if service == "answers" else silent_service)() as base_url:
        ours, theirs = processes.Pipe()
        process = processes.Process(target=_process, args=(theirs, base_url, jobs))
        process.start()
        late, statuses = ours.recv()
        process.join()
    return Lateness(service, jobs, sorted(late)[len(late) // 2], max(late), ", ".join(sorted(set(statuses))))


def as_markdown(rows: Sequence[Lateness]) -> str:
    """Return the rows as a table."""
    cells = [(f"{row.jobs:,}", row.service, row.statuses, f"{row.median:.1f}", f"{row.latest:.1f}") for row in rows]
    return table(["triggers", "the service", "events", "after the deadline, median, s", "latest, s"], cells)


def main() -> None:
    """Measure both services and print what was found."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=10_000)
    jobs = arguments.parse_args().jobs
    print(as_markdown([measure(service, jobs) for service in SERVICES]))


if __name__ == "__main__":
    main()
