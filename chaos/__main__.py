"""
Send many images through real Airflow while its processes are killed, and judge the outcome.

The exit code is 0 if every image is stored and was paid for once, 1 if not, 2 if the run could not be made, and 130 if
it was interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from chaos.airflow_database import TERMINAL_STATES, AirflowDatabase
from chaos.batch_killer import BatchKiller
from chaos.deletions import Deletions
from chaos.draw import Sizes, draw_plan
from chaos.environment import Environment
from chaos.evidence import Evidence, gather_evidence
from chaos.image_history import describe_history
from chaos.killer import Killer
from chaos.plan import Plan
from chaos.report import build_report, format_report
from chaos.verdict import Verdict, judge
from demo.process import ProcessFailedError, tail
from demo.stack import Stack
from demo.system_packages import ServerMissingError

TIMEOUT = 25 * 60
"""Seconds for the images. Starting everything takes half a minute to a minute on top."""

REQUIRED_SHARE_OF_KILLS = 0.9
"""The share of the planned kills that must have happened. Some cannot: a job may end before its worker waits for it."""

CLEANUP_SECONDS = 90
"""How long Airflow may take to delete the triggers that no task waits for."""


SIZES = {
    "images": (150, "number of images of mapped tasks"),
    "deaths": (56, "number of deaths of their task processes at named points"),
    "outside": (30, "number of kills from outside"),
    "shared": (40, "number of images that two DAGs share over one ledger"),
    "shared_deaths": (24, "number of deaths of their task processes at named points"),
    "batch": (300, "number of images of each of the two batches"),
    "batch_deaths": (24, "number of deaths of each batch's task processes at named points"),
    "batch_kills": (16, "number of kills of each batch's task processes at any moment"),
}
"""The options that say how much a run does, by the fields of :class:`~chaos.draw.Sizes`: default and description."""


class StopRequestedError(BaseException):
    """A signal asks this process to stop."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a run and return the exit code."""
    options = _parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _request_stop)
    plan = draw_plan(options.seed, Sizes(**{name: getattr(options, name) for name in SIZES}))
    print(
        f"Seed {plan.seed}: {len(plan.images)} images of mapped tasks, {len(plan.shared)} images that two DAGs share, "
        f"{len(plan.batches)} batches of {options.batch} images, {plan.kill_count} kills and {len(plan.deletions)} "
        "deletions of runs are planned.\n"
        "The seed decides the photos, their routes, where each task process dies, and the order of the kills from "
        "outside. Which tasks those meet depends on timing.",
        flush=True,
    )
    try:
        with Stack("segmind-chaos") as stack:
            try:
                return Run(plan, stack, options).run()
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

    :param plan: its plan
    :param stack: holds its processes and their folder
    :param options: the options of the command line
    """

    def __init__(self, plan: Plan, stack: Stack, options: argparse.Namespace) -> None:
        self.plan = plan
        self.options = options
        self.started = time.monotonic()
        self.environment = Environment(stack, plan, self.report_progress)
        self.database = AirflowDatabase(self.environment.postgres.address)
        self.killer = Killer(self.environment, plan, self.report_progress)
        self.batch_killers = {
            batch.dag_id: BatchKiller(self.environment, batch, self.database, self.report_progress)
            for batch in plan.batches
        }
        self.deletions = Deletions(self.environment, plan.deletions, self.report_progress)

    def report_progress(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)

    def run(self) -> int:
        """Make the run and return the exit code."""
        try:
            self.report_progress("starting Airflow")
            self.environment.start_runs()
            triggered = time.monotonic()
            in_time = self._kill_until_all_tasks_ended()
            seconds = time.monotonic() - triggered
            self._wait_for_cleanup()
            evidence = gather_evidence(self.environment, self.database)
            verdict = judge(self.plan, evidence)
            if not in_time:
                verdict.faults.insert(0, f"the run did not finish within {TIMEOUT} s")
            return self._finish(verdict, evidence, seconds)
        finally:
            self.deletions.close()
            self.environment.postgres.close()

    def _kill_until_all_tasks_ended(self) -> bool:
        """Kill processes and start them again until all tasks have ended. Returns whether that was in time."""
        import psycopg2

        expected = self.environment.expected_tasks
        self.killer.start()
        deadline, next_query, states = time.monotonic() + TIMEOUT, 0.0, dict[str, Counter[str]]()
        while time.monotonic() < deadline:
            for batch_killer in self.batch_killers.values():
                batch_killer.step()
            shares = self._shares(states)
            self.killer.step(sum(shares.values()) / len(expected))
            self.deletions.step(shares)
            if time.monotonic() >= next_query:
                next_query = time.monotonic() + 5
                with contextlib.suppress(psycopg2.Error):
                    states = self.database.states()
                    self._report_states(states)
            ended = all(
                states.get(dag_id, Counter()).total() >= count and set(states[dag_id]) <= TERMINAL_STATES
                for dag_id, count in expected.items()
            )
            if ended and self.deletions.finished:
                self.killer.end_outages()
                with contextlib.suppress(psycopg2.Error):
                    if all(set(runs.values()) <= TERMINAL_STATES for runs in self.database.runs().values()):
                        return True
            time.sleep(0.2)
        self.killer.end_outages()
        return False

    def _shares(self, states: Mapping[str, Counter[str]]) -> dict[str, float]:
        """Return the share of finished images by DAG."""
        shares = {
            dag_id: states[dag_id]["success"] / count
            for dag_id, count in self.environment.expected_tasks.items()
            if dag_id in states
        }
        return shares | {dag_id: killer.share for dag_id, killer in self.batch_killers.items()}

    def _report_states(self, states: Mapping[str, Counter[str]]) -> None:
        counts = "; ".join(f"{dag_id} {dict(states[dag_id])}" for dag_id in sorted(states))
        counts += "".join(f"; {dag_id} has {killer.share:.0%}" for dag_id, killer in self.batch_killers.items())
        deaths, kills = self._count_deaths().total(), self._count_kills().total()
        self.report_progress(f"{counts}; deaths at named points {deaths}, kills from outside {kills}")

    def _wait_for_cleanup(self) -> None:
        """Wait until Airflow has deleted the triggers that no task waits for."""
        import psycopg2

        deadline = time.monotonic() + CLEANUP_SECONDS
        while time.monotonic() < deadline:
            self.killer.end_outages()
            with contextlib.suppress(psycopg2.Error):
                if self.database.triggers() == 0 and self.killer.finished:
                    return
            time.sleep(0.5)

    def _finish(self, verdict: Verdict, evidence: Evidence, seconds: float) -> int:
        """Write and print the report and return the exit code."""
        deaths, outside = self._count_deaths(), self._count_kills()
        kills = deaths.total() + outside.total()
        planned = self.plan.kill_count
        if kills < planned * REQUIRED_SHARE_OF_KILLS:
            verdict.faults.append(f"only {kills} of {planned} planned kills happened, which proves too little")
        report = build_report(
            self.plan,
            verdict,
            command=self._command(),
            deaths=deaths,
            kills=outside,
            ended_by_themselves=self.killer.ended_by_themselves,
            histories={
                stem: describe_history(stem, self.environment, self.database, evidence) for stem in verdict.image_faults
            },
            requests=self.environment.emulator.requests()["counts"],
            seconds=seconds,
            seconds_with_start=time.monotonic() - self.started,
        )
        if self.options.report:
            self.options.report.parent.mkdir(parents=True, exist_ok=True)
            self.options.report.write_text(json.dumps(report, indent=2), "utf-8")
        print(format_report(report), flush=True)
        return 0 if verdict.passed else 1

    def _count_deaths(self) -> Counter[str]:
        """Count the deaths that task processes have recorded, by point."""
        return Counter(path.name.split(".")[1] for path in self.environment.deaths_folder.glob("*.json"))

    def _count_kills(self) -> Counter[str]:
        """Count the kills from outside, by target."""
        return self.killer.done + Counter({dag_id: killer.done for dag_id, killer in self.batch_killers.items()})

    def _command(self) -> str:
        sizes = (f"--{name.replace('_', '-')}={getattr(self.options, name)}" for name in SIZES)
        return f'make chaos SEED={self.plan.seed} ARGS="{" ".join(sizes)}"'


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000), help="of the plan")
    for name, (size, description) in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size, help=description)
    parser.add_argument("--report", type=Path, help="write the report to this JSON file")
    return parser.parse_args(arguments)


def _request_stop(*_: int | FrameType | None) -> None:
    raise StopRequestedError


if __name__ == "__main__":
    sys.exit(main())
