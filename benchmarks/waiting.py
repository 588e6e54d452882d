"""
What it costs one process to wait for many jobs.

Each way to wait runs in a fresh process, against a fake service in another one. There are two scenes:

* Jobs that do not end, polled every 5 s. All ways make the same polls, so this compares what a poll costs.
* Jobs of about 12 s. Each that ends is replaced by a new one. This shows how late a way notices the end of a job, and
  with how many polls, when the process has all these jobs to wait for.

Measured are the CPU time of the whole process, threads included, how late polls come, and how long the event loop does
not run a task that is due. Airflow's triggerer is not part of it.

Run it from the root of the repository: ``python -m benchmarks.waiting``. ``make bench`` repeats it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from itertools import count, pairwise
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.fake_service import ask, end_of, fake_service, request_id
from benchmarks.tables import spread, table
from benchmarks.ways_to_wait import DEADLINE, KEY, WAYS, Wait

TICK = 0.02
SIGMA = 0.15
FIRST_INTERVAL = 0.5
NOTICE_SECONDS = 4.0
"""Jobs that end in so many last seconds of a measurement are not counted, since their end can hardly be noticed."""


@dataclass(frozen=True)
class Scene:
    """
    What a process waits for.

    :param way: the short name of a way to wait
    :param jobs: how many jobs it waits for at a time
    :param interval: seconds between two polls of a job; ``None`` for the adaptive schedule
    :param job_seconds: the median of how long a job takes; ``None`` if jobs do not end
    :param seconds: how long is measured
    """

    way: str
    jobs: int
    interval: float | None
    job_seconds: float | None = None
    seconds: float = 10.0

    @property
    def warm_up(self) -> float:
        """
        Seconds until the load is as it stays.

        The jobs are started evenly over one interval or the time of one job. The adaptive schedule then still has to
        see some of them end.
        """
        if self.job_seconds is None:
            return (self.interval or 0.0) + 2
        return self.job_seconds * (1.25 if self.interval else 2.25)


@dataclass(frozen=True)
class Measurement:
    """What one process needed."""

    scene: Scene
    requests: int
    cpu_per_request: float  # milliseconds
    core: float  # the share of one core
    polls_made: float  # polls, as a share of those that were due; nan if polls come at no fixed interval
    late_p99: float  # seconds by which a poll came later than it was due; likewise
    lag_p99: float  # seconds for which a task that was due at a random moment did not run
    connections: int
    megabytes: float  # resident, of the whole process
    kilobytes_per_job: float  # of these, what came after the first job
    noticed_late: float  # mean seconds from a job's end to the poll that saw it; nan if jobs do not end
    noticed_late_p99: float
    polls_per_job: float
    lags: list[tuple[float, float]] = field(repr=False)  # seconds since the beginning, and the longest lag there


async def _measure(scene: Scene, base_url: str, wait: Wait) -> dict[str, Any]:
    """Wait for the jobs of a scene, and return what was seen in the measured time."""
    import psutil

    numbers, dice = count(), random.Random(7)
    over = scene.job_seconds or scene.interval or 0.0

    async def keep_waiting(start: float) -> None:
        await asyncio.sleep(start)
        while True:
            seconds = dice.lognormvariate(0, SIGMA) * scene.job_seconds if scene.job_seconds else DEADLINE
            await wait(request_id(time.time(), seconds, next(numbers)), scene.interval)

    # What the first job of a process imports and opens is no part of what each further job takes.
    first = request_id(time.time(), DEADLINE, next(numbers))
    warming_up = asyncio.create_task(wait(first, FIRST_INTERVAL))
    await asyncio.sleep(4 * FIRST_INTERVAL)
    warming_up.cancel()

    ticks: list[tuple[float, float]] = []

    async def tick() -> None:
        while True:
            due = time.time() + TICK
            await asyncio.sleep(TICK)
            ticks.append((due, time.time() - due))

    process = psutil.Process()
    before = process.memory_info().rss
    tasks = [asyncio.create_task(keep_waiting(over * number / scene.jobs)) for number in range(scene.jobs)]
    tasks.append(asyncio.create_task(tick()))
    await asyncio.sleep(scene.warm_up)
    await asyncio.to_thread(ask, base_url, "/reset")
    ticks.clear()
    began, cpu = time.time(), time.process_time()
    await asyncio.sleep(scene.seconds)
    cpu, ended = time.process_time() - cpu, time.time()
    found: dict[str, Any] = {"cpu": cpu, "began": began, "ended": ended, "ticks": ticks[:], "before": before}
    found |= {"memory": process.memory_info().rss, "seen": await asyncio.to_thread(ask, base_url, "/statistics")}
    del found["seen"]["polls"][first]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return found


async def _run(scene: Scene, base_url: str) -> dict[str, Any]:
    async with WAYS[scene.way].open(base_url) as wait:
        return await _measure(scene, base_url, wait)


def _process(answer: Connection, scene: Scene, base_url: str) -> None:
    """Measure in a process of its own."""
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    connection = {"conn_type": "segmind", "host": base_url, "password": KEY}
    os.environ["AIRFLOW_CONN_SEGMIND_DEFAULT"] = json.dumps(connection)
    os.environ["AIRFLOW_CONN_BENCHMARK_HTTP"] = json.dumps({"conn_type": "http", "host": base_url})
    # A triggerer has Airflow's objects in memory, which the garbage collector visits together with those of the waits.
    import_module("airflow.triggers.base")
    answer.send(asyncio.run(_run(scene, base_url)))


def quantile(values: Iterable[float], share: float) -> float:
    """Return a quantile, or nan if there are no values."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else float("nan")


def _late_polls(scene: Scene, found: dict[str, Any]) -> Iterator[float]:
    """Yield how late each poll came; one that has not come by the end of the measurement is as late as it is then."""
    assert scene.interval is not None
    for polls in found["seen"]["polls"].values():
        for before, after in pairwise([*polls, found["ended"]]):
            overdue = after - before - scene.interval
            if after > found["began"] and (after < found["ended"] or overdue > 0):
                yield max(overdue, 0.0)


def _lags_of_due_tasks(ticks: Iterable[tuple[float, float]]) -> Iterator[float]:
    """Yield the lag of a task that is due at each moment of a grid; one long block would else count as one moment."""
    for _, lag in ticks:
        for missed in range(int(lag / TICK) + 1):
            yield lag - missed * TICK


def _noticed(found: dict[str, Any]) -> Iterator[tuple[float, int]]:
    """Yield for each job that ended how late that was noticed (or not, by the end), and how many polls it took."""
    for job, polls in found["seen"]["polls"].items():
        end = end_of(job)
        if found["began"] < end < found["ended"] - NOTICE_SECONDS:
            after = [poll for poll in polls if poll >= end]
            yield (after[0] if after else found["ended"]) - end, len(polls) - len(after) + 1


def measure(scene: Scene) -> Measurement:
    """Measure a scene once."""
    processes = multiprocessing.get_context("spawn")
    with fake_service() as base_url:
        ours, theirs = processes.Pipe()
        process = processes.Process(target=_process, args=(theirs, scene, base_url))
        process.start()
        theirs.close()  # so that a process that dies ends the next line
        found = ours.recv()
        process.join()
    requests, wall = sum(found["seen"]["requests"].values()), found["ended"] - found["began"]
    late, due = [], float("nan")
    if scene.interval and scene.job_seconds is None:
        late, due = list(_late_polls(scene, found)), scene.jobs * wall / scene.interval
    noticed = list(_noticed(found)) if scene.job_seconds else []
    return Measurement(
        scene=scene,
        requests=requests,
        cpu_per_request=1000 * found["cpu"] / max(requests, 1),
        core=found["cpu"] / wall,
        polls_made=found["seen"]["requests"].get("status", 0) / due,
        late_p99=quantile(late, 0.99),
        lag_p99=quantile(_lags_of_due_tasks(found["ticks"]), 0.99),
        connections=found["seen"]["connections"],
        megabytes=found["memory"] / 1e6,
        kilobytes_per_job=(found["memory"] - found["before"]) / 1e3 / scene.jobs,
        noticed_late=sum(late for late, _ in noticed) / len(noticed) if noticed else float("nan"),
        noticed_late_p99=quantile((late for late, _ in noticed), 0.99),
        polls_per_job=sum(polls for _, polls in noticed) / len(noticed) if noticed else float("nan"),
        lags=[(due - found["began"], lag) for due, lag in found["ticks"]],
    )


def cost_scenes(jobs: int, seconds: float, ways: Iterable[str] = tuple(WAYS)) -> list[Scene]:
    """Return the scenes that compare what a poll costs, without those whose package is missing."""
    return [
        Scene(way, min(jobs, WAYS[way].most_jobs or jobs), 5.0, seconds=seconds) for way in ways if not missing(way)
    ]


def notice_scenes(jobs: int, seconds: float, job_seconds: float = 12.0) -> list[Scene]:
    """Return the scenes that compare how late the end of a job is noticed."""
    per_poll = [Scene("httpx-per-poll", waiting, 1.0, job_seconds, seconds) for waiting in (30, 100)]
    return [Scene("provider", jobs, None, job_seconds, seconds), *per_poll]


def missing(way: str) -> str | None:
    """Return the package that a way needs and that is not installed."""
    package = WAYS[way].package
    return package if package and find_spec(package.replace("-", "_")) is None else None


Runs = list[list[Measurement]]
"""For each scene its measurements, one for each run."""


def cost_table(runs: Runs) -> str:
    """Return what a poll costs in each way, as Markdown."""
    rows = [
        (
            WAYS[measured[0].scene.way].name,
            f"{measured[0].scene.jobs:,}",
            spread(m.cpu_per_request for m in measured),
            spread((100 * m.core for m in measured), 0),
            spread((100 * m.polls_made for m in measured), 0),
            spread(m.late_p99 for m in measured),
            spread((1000 * m.lag_p99 for m in measured), 0),
            spread((m.connections for m in measured), 0),
            spread((m.megabytes for m in measured), 0),
            spread((m.kilobytes_per_job for m in measured), 1),
        )
        for measured in runs
    ]
    headings = [
        "way to wait",
        "jobs",
        "ms CPU a request",
        "% of a core",
        "% of the due polls made",
        "poll late, p99, s",
    ]
    return table([*headings, "loop lag, p99, ms", "connections", "process, MB", "kB a further job"], rows)


def notice_table(runs: Runs) -> str:
    """Return how late the end of a job is noticed, as Markdown."""
    rows = []
    for measured in runs:
        scene = measured[0].scene
        rows.append(
            (
                WAYS[scene.way].name,
                f"{scene.interval:g} s" if scene.interval else "adaptive",
                f"{scene.jobs:,}",
                spread(m.noticed_late for m in measured),
                spread(m.noticed_late_p99 for m in measured),
                spread((m.polls_per_job for m in measured), 1),
                spread(m.cpu_per_request for m in measured),
                spread((100 * m.core for m in measured), 0),
                spread((1000 * m.lag_p99 for m in measured), 0),
            )
        )
    headings = ["way to wait", "polls", "jobs", "end noticed late, mean, s", "p99, s", "status requests a job"]
    return table([*headings, "ms CPU a request", "% of a core", "loop lag, p99, ms"], rows)


def main() -> None:
    """Measure once and print the tables."""
    parser = argparse.ArgumentParser(description="Measure what waiting for many jobs costs one process.")
    parser.add_argument("--jobs", type=int, default=1000, help="how many jobs the process waits for")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each way is measured")
    parser.add_argument("--costs-only", action="store_true", help="leave out the jobs that end")
    parser.add_argument("ways", nargs="*", default=list(WAYS), help=f"of {', '.join(WAYS)}")
    given = parser.parse_args()
    for way in given.ways:
        if package := missing(way):
            print(f"{way} is left out. Install {package} to measure it.")
    print(cost_table([[measure(scene)] for scene in cost_scenes(given.jobs, given.seconds, given.ways)]), flush=True)
    if not given.costs_only:
        print()
        print(notice_table([[measure(scene)] for scene in notice_scenes(given.jobs, given.seconds)]))


if __name__ == "__main__":
    main()
