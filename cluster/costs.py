"""What a DAG has cost: time, requests, worker seconds, rows and CPU."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.airflow_records import AirflowRecords, seconds_of_parts
from cluster.environment import Environment
from cluster.limit import LimitUse, measure_limit_use

S3_REQUEST = re.compile(r'"(?:\x1b\[[\d;]*m)*([A-Z]+) /')
"""A request in the log of the S3 server, which may be coloured."""


@dataclass(frozen=True)
class Snapshot:
    """
    The counters at one moment.

    :param time: epoch seconds
    :param parts: how many parts of tasks the workers have finished
    :param worker_seconds: how long these held a worker's slot
    :param rows: inserted rows by table
    :param size: the size of the database in bytes
    :param cpu: seconds of CPU by kind of process
    :param s3: requests to S3 by method
    """

    time: float
    parts: int
    worker_seconds: float
    rows: Mapping[str, float]
    size: int
    cpu: Mapping[str, float]
    s3: Mapping[str, float]

    @classmethod
    def take(cls, environment: Environment, records: AirflowRecords) -> Snapshot:
        """Read the counters."""
        seconds = [seconds for worker in environment.workers for seconds in seconds_of_parts(worker.log)]
        return cls(
            time.time(),
            len(seconds),
            sum(seconds),
            records.inserted_rows(),
            records.size(),
            environment.cpu_seconds(),
            Counter(S3_REQUEST.findall(environment.s3.process.log.read_text("utf-8", "replace"))),
        )


@dataclass(frozen=True)
class Costs:
    """
    What a DAG has cost.

    :param images: how many images it has worked on
    :param before: the counters before it
    :param after: the counters after it
    :param limit: how it used the rate limit
    """

    images: int
    before: Snapshot
    after: Snapshot
    limit: LimitUse

    @classmethod
    def since(cls, before: Snapshot, images: int, environment: Environment, records: AirflowRecords) -> Costs:
        """Return the costs since a snapshot."""
        log = environment.emulator.requests()["log"]
        limit = measure_limit_use(entry for entry in log if entry["time"] >= before.time)
        return cls(images, before, Snapshot.take(environment, records), limit)

    def as_json(self) -> dict[str, Any]:
        """Return the costs, those that grow with the images as so much an image."""
        before, after = self.before, self.after
        return {
            "images": self.images,
            "seconds": round(after.time - before.time, 1),
            "images_a_minute": round(self.images / (after.time - before.time) * 60, 1),
            "busiest_minute": self.limit.busiest_minute,
            "refused": self.limit.refused,
            "requests_an_image": {
                "all": round(sum(self.limit.requests.values()) / self.images, 2),
                **self._an_image(self.limit.requests),
            },
            "worker_parts": after.parts - before.parts,
            "worker_seconds_an_image": round((after.worker_seconds - before.worker_seconds) / self.images, 3),
            "s3_requests_an_image": self._an_image(after.s3, before.s3),
            "rows_an_image": self._an_image(after.rows, before.rows),
            "database_bytes_an_image": round((after.size - before.size) / self.images),
            "cpu_seconds_an_image": self._an_image(after.cpu, before.cpu),
        }

    def _an_image(self, after: Mapping[str, float], before: Mapping[str, float] | None = None) -> dict[str, float]:
        grown = {name: total - (before or {}).get(name, 0) for name, total in sorted(after.items())}
        return {name: round(growth / self.images, 3) for name, growth in grown.items() if growth}
