"""
Measure whole runs in real Airflow on PostgreSQL, and print what they took.

Run it from the root of the repository: ``python -m benchmarks.batch``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from benchmarks.batch.measuring import Outcome
from benchmarks.batch.report import cost_table, faults, limit_table, row_table
from benchmarks.batch.runs import measure, running
from benchmarks.batch.scenarios import FULL, QUICK, Scenario
from demo.process import ProcessFailedError, tail
from demo.system_packages import ServerMissingError

TIMELINE_STEP = 5


def describe(outcome: Outcome) -> str:
    """Return what the tables leave out."""
    began = outcome.times.began
    processes = sorted(outcome.processes, key=lambda process: process.began)
    lives = ", ".join(f"{p.began - began:.1f} to {p.ended - began:.1f} ({p.cpu:.2f})" for p in processes)
    lines = [
        f"{outcome.scenario.name}: requests {outcome.requests}",
        f"  CPU of all processes, s: { {name: round(cpu, 1) for name, cpu in outcome.services_cpu.items()} }",
        f"  task processes, s after the run's begin (and their CPU): {lives}",
    ]
    for kind, times in outcome.request_times.items():
        counted = Counter(int((at - began) // TIMELINE_STEP) for at in times)
        cells = " ".join(str(counted[step]) for step in range(max(counted) + 1))
        lines.append(f"  {kind} requests each {TIMELINE_STEP} s: {cells}")
    return "\n".join([*lines, *(f"  FAULT: {fault}" for fault in outcome.faults)])


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description="Measure whole runs in real Airflow on PostgreSQL.")
    parser.add_argument("--way", choices=("batch", "mapped", "blocking"), default="batch")
    parser.add_argument("--images", type=int, nargs="*", default=[], help="run batches of these sizes only")
    parser.add_argument("--limit", type=int, help="of the account, requests a minute")
    parser.add_argument("--undeclared", action="store_true", help="the connection does not know the limit")
    parser.add_argument("--options", type=json.loads, default={}, help="arguments of the operator, as JSON")
    parser.add_argument("--limited", action="store_true", help="run only those at a rate limit, and tell more of them")
    parser.add_argument("--quick", action="store_true", help="run all scenarios with few images")
    parser.add_argument("--profile", type=Path, help="a folder for a profile of each task process")
    given = parser.parse_args()
    try:
        if given.limited:
            planned = (QUICK if given.quick else FULL).together
            with running(planned, given.profile) as bench:
                outcomes = bench.run(planned)
            print(limit_table(outcomes), *map(describe, outcomes), sep="\n")
            return bool(faults(outcomes))
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
    except (ServerMissingError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 2
    return bool(faults(outcomes))


if __name__ == "__main__":
    sys.exit(main())
