"""
Send 400 photos through an Airflow of two workers and two triggerers, kill one of each, and judge the outcome.

The exit code is 0 if every photo is stored, was submitted once, and the rate limit was kept; 1 if not, 2 if the run
could not be made, and 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from cluster.airflow_records import TERMINAL_STATES, AirflowRecords
from cluster.costs import Costs, Snapshot
from cluster.environment import Environment
from cluster.evidence import gather_evidence
from cluster.killer import Kill, Killer
from cluster.plan import PARTS, Part
from cluster.report import build_report, format_report
from cluster.verdict import find_faults
from demo.process import ProcessFailedError, tail
from demo.stack import Stack
from demo.system_packages import ServerMissingError

TIMEOUT = 12 * 60
"""Seconds for the DAGs that run at the same time."""


class StopRequestedError(BaseException):
    """A signal asks this process to stop."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a run and return the exit code."""
    options = _parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _request_stop)
    try:
        with Stack("segmind-cluster") as stack:
            try:
                return Run(stack).run(measure_costs=options.costs, report_file=options.report)
            except ProcessFailedError as error:
                if error.log:
                    print(f"The end of its log:\n{tail(error.log, 40)}", file=sys.stderr)
                raise
    except ServerMissingError as error:
        print(error, file=sys.stderr)
        return 2
    except (ProcessFailedError, TimeoutError) as error:
        print(f"{error}\nThe run could not be made, so this says nothing about the package.", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, StopRequestedError):
        print("\nStopped. No process is left running.", file=sys.stderr)
        return 130


class Run:
    """
    One run.

    :param stack: holds its processes and their folder
    """

    def __init__(self, stack: Stack) -> None:
        self.started = time.monotonic()
        self.environment = Environment(stack, self.report_progress)
        stack.on_close(self.environment.postgres.close)
        self.late: list[str] = []

    def report_progress(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)

    def run(self, *, measure_costs: bool, report_file: Path | None) -> int:
        """Run the DAGs, judge the outcome, and return the exit code."""
        environment = self.environment
        environment.start(self.report_progress)
        records = AirflowRecords(environment.postgres.address, environment.airflow.home / "logs")
        environment.stack.on_close(records.close)
        costs: dict[str, Costs] = {}
        kills: list[Kill] = []
        if measure_costs:
            for part in PARTS:
                before = Snapshot.take(environment, records)
                self._run_dags([part], records)
                costs[part.dag_id] = Costs.since(before, len(part.photos), environment, records)
        else:
            killer = Killer(environment, records, self.report_progress)
            self._run_dags(PARTS, records, killer)
            kills = killer.kills
        evidence = gather_evidence(environment, records, kills)
        faults = self.late + find_faults(PARTS, evidence, kills_planned=not measure_costs)
        report = build_report(evidence, faults, costs, time.monotonic() - self.started)
        if report_file:
            report_file.parent.mkdir(parents=True, exist_ok=True)
            report_file.write_text(json.dumps(report, indent=2), "utf-8")
        print(format_report(report), flush=True)
        return 0 if report["passed"] else 1

    def _run_dags(self, parts: Sequence[Part], records: AirflowRecords, killer: Killer | None = None) -> None:
        """Run DAGs at the same time, until all have ended."""
        emulator, airflow = self.environment.emulator, self.environment.airflow
        before, photos = emulator.jobs()["accepted"], sum(len(part.photos) for part in parts)
        for part in parts:
            airflow.api.trigger(part.dag_id)
            self.report_progress(f"triggered {part.dag_id}: {len(part.photos)} photos, {part.tasks} tasks")
        deadline, next_count, next_report, submitted = time.monotonic() + TIMEOUT, 0.0, 0.0, 0
        while running := [part for part in parts if records.run_state(part.dag_id) not in TERMINAL_STATES]:
            airflow.ensure_running()
            if time.monotonic() > deadline:
                self.late += [f"the run of {part.dag_id} had not ended after {TIMEOUT} s" for part in running]
                break
            if time.monotonic() > next_count:
                next_count = time.monotonic() + 2
                submitted = emulator.jobs()["accepted"] - before
            if killer:
                killer.step(submitted / photos)
            if time.monotonic() > next_report:
                next_report = time.monotonic() + 10
                tasks = ", ".join(f"{part.folder} {dict(records.states(part.dag_id))}" for part in parts)
                self.report_progress(f"{submitted} photos submitted; tasks: {tasks}")
            time.sleep(0.3)
        if killer:
            killer.start_replacements()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    parser.add_argument(
        "--costs", action="store_true", help="kill nothing, run one DAG after the other, and measure what each costs"
    )
    parser.add_argument("--report", type=Path, help="write the report to this JSON file")
    return parser.parse_args(arguments)


def _request_stop(*_: int | FrameType | None) -> None:
    raise StopRequestedError


if __name__ == "__main__":
    sys.exit(main())
