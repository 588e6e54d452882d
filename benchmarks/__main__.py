"""
Run the benchmarks of ``docs/performance.md``, and write ``docs/benchmark-results.md`` and its plots.

Run it with ``make bench``. What depends on the machine is measured several times, and the runs alternate: first each
way once, then each way again. So all ways see the same changes of the machine's load.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple, TypeVar

from benchmarks import (
    deadlines,
    event_loop,
    import_time,
    official_client,
    plots,
    poll_schedule,
    upload_memory,
    waiting,
    worker_parts,
)
from benchmarks.batch import runs, scenarios
from benchmarks.batch.scenarios import Scenarios
from benchmarks.tables import table
from benchmarks.ways_to_wait import WAYS
from demo.system_packages import ServerMissingError

PACKAGES = ("apache-airflow", "aiohttp", "httpx", "httpx-aiohttp", "httpx2", "boto3", "segmind")
LAW = poll_schedule.LAWS[1]
T = TypeVar("T")
Sections = Iterator[tuple[str, str]]
"""Titles and texts of the page with the results."""


class Size(NamedTuple):
    """How much is measured."""

    runs: int
    jobs: int  # that are polled every 5 s
    ending_jobs: int  # that end and are replaced
    cost_seconds: float
    notice_seconds: float
    warm_images: int
    cold_images: int
    imports: int
    batches: Scenarios


FULL = Size(2, 10_000, 1000, 8.0, 12.0, 9, 4, 15, scenarios.FULL)
QUICK = Size(1, 200, 20, 2.0, 5.0, 2, 1, 3, scenarios.QUICK)


def say(words: str) -> None:
    """Print progress."""
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


def alternate(what: str, runs: int, measurements: Sequence[Callable[[], T]]) -> list[list[T]]:
    """Measure each once, then each again, and return for each its measurements."""
    found: list[list[T]] = [[] for _ in measurements]
    for run in range(runs):
        for number, measure in enumerate(measurements):
            say(f"{what}: run {run + 1} of {runs}, {number + 1} of {len(measurements)}")
            found[number].append(measure())
    return found


def machine(command: str) -> str:
    """Return where, when and with what this was measured."""
    rows = [
        ("command", f"`{command}`"),
        ("date", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())),
        ("cores", str(len(os.sched_getaffinity(0)))),
        ("load average of the minute before", f"{os.getloadavg()[0]:.1f}"),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("Python", platform.python_version()),
    ]
    for package in PACKAGES:
        try:
            rows.append((package, version(package)))
        except PackageNotFoundError:
            rows.append((package, "not installed"))
    return table(["", ""], rows)


def fresh(measure: Callable[..., T], *arguments: object, **options: object) -> T:
    """Measure in a fresh process, so that what this one has imported changes nothing."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *arguments, **options).result()


def waiting_sections(size: Size, images: Path) -> Sections:
    """Measure what waiting costs, and draw its plots."""
    scenes = waiting.cost_scenes(size.jobs, size.cost_seconds)
    costs = alternate("what a poll costs", size.runs, [partial(waiting.measure, scene) for scene in scenes])
    plots.draw_costs(images / "cost-of-a-poll.svg", costs)
    plots.draw_lags(images / "event-loop-lag.svg", costs)
    left_out = [
        f"Not measured: {way.name}. Install {way.package}." for way in WAYS.values() if waiting.missing(way.short)
    ]
    yield "What a poll costs", "\n\n".join([waiting.cost_table(costs), *left_out])
    scenes = waiting.notice_scenes(size.ending_jobs, size.notice_seconds)
    notices = alternate("jobs that end", size.runs, [partial(waiting.measure, scene) for scene in scenes])
    yield "How late the end of a job is noticed", waiting.notice_table(notices)


def worker_sections(size: Size) -> Sections:
    """Measure the worker parts; that repeats and alternates by itself."""
    rounds = {"warm_rounds": size.warm_images, "cold_rounds": size.cold_images}
    say("the worker parts")
    parts = fresh(worker_parts.measure, ("https to a key", "s3 to a prefix"), **rounds)
    yield "The worker parts of an image", worker_parts.as_markdown(parts)
    say("the check before paying")
    checks = fresh(worker_parts.measure_checks, **rounds)
    yield "The check before paying", worker_parts.checks_as_markdown(checks)


def batch_sections(size: Size) -> Sections:
    """Measure whole runs in real Airflow, if there is a PostgreSQL server."""
    try:
        tables, wrong = runs.measure(size.batches)
    except ServerMissingError as error:
        yield "Whole runs", f"Not measured: {error}"
        return
    yield from tables.items()
    if wrong:
        yield "What went wrong in the whole runs", "\n".join(f"* {fault}" for fault in wrong)


def sections(size: Size, images: Path) -> Sections:
    """Measure everything, and draw the plots."""
    yield from waiting_sections(size, images)
    say("deadlines that fall together")
    late = [deadlines.measure(service, size.jobs) for service in deadlines.SERVICES]
    yield "Deadlines that fall together", deadlines.as_markdown(late)
    (official,) = alternate("the official client", size.runs, [official_client.measure])
    yield "The official client in a task", official_client.as_markdown(official)
    yield from worker_sections(size)
    (blocked,) = alternate("the event loop", size.runs, [partial(fresh, event_loop.measure)])
    yield "How long a trigger blocks the event loop", event_loop.as_markdown(blocked)
    say("import times")
    yield "Import of the operator", import_time.as_markdown(import_time.measure(size.imports))
    say("memory of an upload")
    yield "Memory of an upload", upload_memory.as_markdown(upload_memory.measure())
    say("poll schedules")
    plots.draw_frontier(images / "poll-frontier.svg", LAW)
    yield "Poll schedules", poll_schedule.as_markdown(poll_schedule.measure((LAW,)))
    yield from batch_sections(size)


def page(size: Size, command: str, images: Path) -> str:
    """Measure everything and return the page with the results."""
    intro = (
        f"# Benchmark results\n\nWritten by `{command}`; do not edit. [performance.md](performance.md) says what is "
        "measured, and how. Where a cell has parentheses, it is a median with the least and the greatest value; "
        f"what depends on the machine's load was measured {size.runs} times, in turn."
    )
    facts = machine(command)
    return "\n\n".join([intro, facts, *(f"## {title}\n\n{text}" for title, text in sections(size, images))]) + "\n"


def main() -> None:
    """Run all and write the results."""
    parser = argparse.ArgumentParser(description="Run all benchmarks and write their results.")
    parser.add_argument("--runs", type=int, default=FULL.runs, help="how often to repeat what depends on the machine")
    parser.add_argument("--quick", action="store_true", help="only check that all of it runs; writes to build/bench/")
    given = parser.parse_args()
    size = QUICK if given.quick else FULL._replace(runs=given.runs)
    docs = Path("build/bench") if given.quick else Path("docs")
    command = "make bench QUICK=1" if given.quick else f"make bench RUNS={size.runs}"
    if not Path("benchmarks/__main__.py").exists():
        sys.exit("Run this in the root of the repository.")
    (docs / "images").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"AIRFLOW_HOME": home, "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
        began = time.monotonic()
        results = page(size, command, docs / "images")
    (docs / "benchmark-results.md").write_text(results, "utf-8")
    say(f"{docs}/benchmark-results.md is written, after {(time.monotonic() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
