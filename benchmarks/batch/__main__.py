"""
Measure whole runs in real Airflow on PostgreSQL, and print what they took.

Run it from the root of the repository: ``python -m benchmarks.batch``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.batch.environment import Environment
from benchmarks.batch.measuring import Bench, Outcome
from benchmarks.batch.report import cost_table, faults, limit_table, row_table, start_table
from benchmarks.batch.scenarios import FULL, QUICK, Scenario, Scenarios
from chaos.postgres import PostgresMissingError
from demo.process import ProcessFailedError, tail
from demo.stack import Stack


def report(words: str) -> None:
    """Print progress."""
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


def describe(outcome: Outcome) -> str:
    """Return what the tables leave out."""
    scenario = outcome.scenario
    lines = [
        f"{scenario.name}: requests {outcome.requests}",
        f"  CPU of all processes, s: { {name: round(cpu, 1) for name, cpu in outcome.services_cpu.items()} }",
        f"  task processes, s of life and of CPU: {[(round(p.life, 1), round(p.cpu, 2)) for p in outcome.processes][:30]}",
        *(f"  FAULT: {fault}" for fault in outcome.faults),
    ]
    return "\n".join(lines)


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
        alone = [bench.run([scenario])[0] for scenario in planned.alone]
        together = bench.run(planned.together)
        start = bench.start(planned.start)
    tables = {
        "Whole runs": cost_table(alone),
        "Whole runs at the rate limit": limit_table(together),
        "Rows in Airflow's database": row_table([*alone, *together]),
        "The start of a large batch": start_table(start),
    }
    return tables, faults([*alone, *together])


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description="Measure whole runs in real Airflow on PostgreSQL.")
    parser.add_argument("--way", choices=("batch", "mapped", "blocking"), default="batch")
    parser.add_argument("--images", type=int, nargs="*", default=[], help="run batches of these sizes only")
    parser.add_argument("--limit", type=int, help="of the account, requests a minute")
    parser.add_argument("--undeclared", action="store_true", help="the connection does not know the limit")
    parser.add_argument("--options", type=json.loads, default={}, help="arguments of the operator, as JSON")
    parser.add_argument("--quick", action="store_true", help="run all scenarios with few images")
    parser.add_argument("--profile", type=Path, help="a folder for a profile of each task process")
    given = parser.parse_args()
    try:
        if not given.images:
            tables, wrong = measure(QUICK if given.quick else FULL)
            print("\n\n".join(f"{title}\n\n{text}" for title, text in tables.items()))
            print("\n".join(wrong))
            return bool(wrong)
        scenarios = [
            Scenario(f"{given.way}_{images}", given.way, images, given.limit, not given.undeclared, given.options)
            for images in given.images
        ]
        with running(scenarios, given.profile) as bench:
            outcomes = [bench.run([scenario])[0] for scenario in scenarios]
        print(cost_table(outcomes), *map(describe, outcomes), sep="\n")
        if given.limit:
            print(limit_table(outcomes))
        print(row_table(outcomes))
    except ProcessFailedError as error:
        print(error, tail(error.log, 40) if error.log else "", file=sys.stderr)
        return 2
    except (PostgresMissingError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 2
    return bool(faults(outcomes))


if __name__ == "__main__":
    sys.exit(main())
