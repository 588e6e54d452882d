"""
What it costs to wait for a job with Segmind's official client, in a task that holds its worker slot all the time.

This is the shortest DAG that a user can write: ``segmind.SegmindClient().run(...)`` in a ``@task``. Each task is a
process of its own and waits for one job of 12 s. Some such processes run at once. What Airflow's task process has
imported by then is imported first, since that, and not the client, makes up most of its memory.

Run it from the root of the repository: ``python -m benchmarks.official_client``.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.fake_service import MODEL, ask, end_of, fake_service
from benchmarks.tables import spread, table
from benchmarks.ways_to_wait import KEY

PROCESSES = 4


@dataclass(frozen=True)
class Row:
    """What one image took, and what its process needed; a mean over some processes."""

    requests: float
    cpu_ms: float  # importing the client included, importing Airflow not
    noticed_late: float  # seconds
    megabytes_of_airflow: float  # resident, before the client was imported
    megabytes: float  # resident, at the end


def _run_task(answer: Connection, base_url: str) -> None:
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    import airflow.sdk
    import airflow.sdk.execution_time.task_runner  # noqa: F401 - what a task process has imported
    import psutil

    process = psutil.Process()
    before, cpu = process.memory_info().rss, time.process_time()
    import segmind

    job = segmind.SegmindClient(api_key=KEY, base_url=f"{base_url}/v1").run(MODEL, image="https://example.com/cup.jpg")
    took, ended = time.process_time() - cpu, time.time()
    answer.send((took, ended - end_of(job["request_id"]), before, process.memory_info().rss))


def measure() -> Row:
    """Measure once."""
    processes = multiprocessing.get_context("spawn")
    with fake_service() as base_url:
        ours, theirs = zip(*(processes.Pipe() for _ in range(PROCESSES)), strict=True)
        started = [processes.Process(target=_run_task, args=(pipe, base_url)) for pipe in theirs]
        for process, pipe in zip(started, theirs, strict=True):
            process.start()
            pipe.close()
        found = [pipe.recv() for pipe in ours]
        for process in started:
            process.join()
        requests = sum(ask(base_url, "/statistics")["requests"].values())
    cpu, late, before, after = (sum(values) / PROCESSES for values in zip(*found, strict=True))
    return Row(requests / PROCESSES, 1000 * cpu, late, before / 1e6, after / 1e6)


def as_markdown(runs: list[Row]) -> str:
    """Return the runs as a table."""
    headings = ["requests an image", "ms CPU an image", "end noticed late, mean, s", "Airflow in memory, MB"]
    cells = (
        spread((row.requests for row in runs), 1),
        spread((row.cpu_ms for row in runs), 0),
        spread(row.noticed_late for row in runs),
        spread((row.megabytes_of_airflow for row in runs), 0),
        spread((row.megabytes for row in runs), 0),
        spread((10_000 * row.megabytes / 1e6 for row in runs), 1),
    )
    return table([*headings, "process, MB", "extrapolated: TB for 10,000 waiting tasks"], [cells])


def main() -> None:
    """Measure once and print."""
    print(as_markdown([measure()]))


if __name__ == "__main__":
    main()
