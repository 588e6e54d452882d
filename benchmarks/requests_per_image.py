"""
How many status requests a wait makes, and how long after a job's end the wait notices it.

Compares the poll schedule with a poll each second, on a simulated clock.
"""

from __future__ import annotations

import json
import random
import statistics

from airflow_provider_segmind.api.models import JobOutcome
from airflow_provider_segmind.api.operation import ApiContext, Operation, Pause, Response
from airflow_provider_segmind.api.polling import watch

JOBS = 2000
MODEL = "bria-erase-foreground"


class World:
    """A simulated clock, and jobs that run on it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def run(self, operation: Operation[JobOutcome], ends_at: float, seconds: float) -> tuple[int, float]:
        """Return the number of status requests, and the seconds from the job's end to its discovery."""
        statuses, noticed = 0, 0.0
        step = next(operation)
        try:
            while True:
                if isinstance(step, Pause):
                    self.now += step.seconds
                    step = operation.send(None)
                    continue
                done = self.now >= ends_at
                body: dict[str, object] = {"status": "COMPLETED" if done else "PROCESSING"}
                if step.url.endswith("/status"):
                    statuses += 1
                    noticed = self.now - ends_at
                else:
                    body |= {"output": "https://images.segmind.com/x.png", "metrics": {"total_time": seconds}}
                step = operation.send(Response(200, {}, json.dumps(body).encode()))
        except StopIteration:
            return statuses, noticed


def measure(sigma: float, poll_interval: float | None) -> str:
    """Run jobs of lognormal length one after another, as one triggerer sees them."""
    draw = random.Random(7)
    world = World()
    api = ApiContext(clock=lambda: world.now)
    counts, delays = [], []
    for _ in range(JOBS):
        seconds = 11.97 * draw.lognormvariate(0, sigma)
        start = world.now
        operation = watch(api, "id", MODEL, submitted_at=start, deadline=start + 600, poll_interval=poll_interval)
        statuses, delay = world.run(operation, start + seconds, seconds)
        counts.append(statuses)
        delays.append(delay)
    return (
        f"{statistics.mean(counts):5.2f} status requests (95th percentile {sorted(counts)[int(0.95 * JOBS)]:2d}), "
        f"the end is noticed {statistics.mean(delays):4.1f} s late on average"
    )


def main() -> None:
    """Print the figures of both."""
    for sigma in (0.15, 0.3):
        print(f"{JOBS} jobs of about 11.97 s, sigma {sigma}:")
        print(f"  a poll each second: {measure(sigma, 1.0)}")
        print(f"  poll schedule:      {measure(sigma, None)}")


if __name__ == "__main__":
    main()
