"""
Send 400 photos through an Airflow of two workers and two triggerers, kill one of each twice, and judge the outcome.

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

TIMEOUT = 8 * 60
"""Seconds for one DAG."""


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
                return Run(stack).run(options.report)
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
        self.kills: list[Kill] = []
        self.late: list[str] = []

    def report_progress(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)

    def run(self, report_file: Path | None) -> int:
        """Run both DAGs, one after the other, and return the exit code."""
        environment = self.environment
        environment.start(self.report_progress)
        records = AirflowRecords(environment.postgres.address, environment.airflow.home / "logs")
        environment.stack.on_close(records.close)
        costs = {part.dag_id: self._run_part(part, records) for part in PARTS}
        evidence = gather_evidence(environment, records, self.kills)
        faults = self.late + find_faults(PARTS, evidence)
        report = build_report(evidence, faults, costs, time.monotonic() - self.started)
        if report_file:
            report_file.parent.mkdir(parents=True, exist_ok=True)
            report_file.write_text(json.dumps(report, indent=2), "utf-8")
        print(format_report(report), flush=True)
        return 0 if report["passed"] else 1

    def _run_part(self, part: Part, records: AirflowRecords) -> Costs:
        """Run one DAG to its end, with a triggerer and a worker killed on the way."""
        before = Snapshot.take(self.environment, records)
        posts = len(self.environment.emulator.jobs()["jobs"])
        killer = Killer(self.environment, records, part, self.report_progress)
        run_id = self.environment.airflow.api.trigger(part.dag_id)
        self.report_progress(f"{part.dag_id}: {len(part.photos)} photos, {part.tasks} tasks ({run_id})")
        deadline, next_report = time.monotonic() + TIMEOUT, 0.0
        while (state := records.run_state(part.dag_id)) not in TERMINAL_STATES:
            self.environment.airflow.ensure_running()
            if time.monotonic() > deadline:
                self.late.append(f"the run of {part.dag_id} was {state} after {TIMEOUT} s")
                break
            submitted = len(self.environment.emulator.jobs()["jobs"]) - posts
            killer.step(submitted)
            if time.monotonic() > next_report:
                next_report = time.monotonic() + 10
                self.report_progress(f"{submitted} photos submitted; tasks: {dict(records.states(part.dag_id))}")
            time.sleep(0.3)
        killer.start_replacements()
        self.kills += killer.kills
        return Costs.since(before, len(part.photos), self.environment, records)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    parser.add_argument("--report", type=Path, help="write the report to this JSON file")
    return parser.parse_args(arguments)


def _request_stop(*_: int | FrameType | None) -> None:
    raise StopRequestedError


if __name__ == "__main__":
    sys.exit(main())
