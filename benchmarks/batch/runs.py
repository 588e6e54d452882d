"""Run the scenarios of a size and return their tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.batch.environment import Environment
from benchmarks.batch.measuring import Bench
from benchmarks.batch.report import cost_table, faults, limit_table, row_table, start_table
from benchmarks.batch.scenarios import Scenario, Scenarios
from demo.stack import Stack


def report(words: str) -> None:
    """Print progress."""
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


@contextmanager
def running(scenarios: Sequence[Scenario], profiles: Path | None = None) -> Iterator[Bench]:
    """Start everything that the scenarios need, and end it with the block."""
    with Stack("segmind-bench") as stack:
        environment = Environment(stack, scenarios, report, profiles)
        try:
            with environment.tasks.watching():
                yield Bench(environment)
        finally:
            environment.postgres.close()


def measure(planned: Scenarios) -> tuple[dict[str, str], list[str]]:
    """
    Measure all scenarios.

    :return: the tables by their titles, and the faults
    """
    with running(planned.all) as bench:
        alone = []
        for scenario in planned.alone:
            alone += bench.run([scenario])
            report(f"so far:\n{cost_table(alone)}")  # a run that is interrupted has not been in vain
        together = bench.run(planned.together)
        report(f"so far:\n{limit_table(together)}")
        start = bench.start(planned.start)
    tables = {
        "Whole runs": cost_table(alone),
        "Whole runs at the rate limit": limit_table(together),
        "Rows in Airflow's database": row_table([*alone, *together]),
        "The start of a large batch": start_table(start),
    }
    return tables, faults([*alone, *together])
