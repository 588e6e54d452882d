"""``make chaos``: many photos through real Airflow while its processes are killed, and a verdict."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from chaos.evidence import gather
from chaos.histories import history_of
from chaos.killer import Killer
from chaos.plan import OUTSIDE, POINTS, Plan
from chaos.postgres import PostgresMissingError
from chaos.records import TERMINAL, Records
from chaos.report import in_words
from chaos.stage import Stage
from chaos.verdict import Verdict, judge
from demo.process import ProcessFailedError, tail
from demo.stack import Stack

LONGEST = 18 * 60
"""Seconds for the images; besides, half a minute to a minute to start everything."""

ENOUGH = 0.9
"""The share of the planned kills that must have been done. Some never come: the job ended before its worker waited."""

TIDY_SECONDS = 90


class ToldToStopError(BaseException):
    """A signal asks us to stop."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0: every image is stored and was paid for once."""
    options = _parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    plan = Plan.make(options.seed, options.images, options.deaths, options.outside)
    print(
        f"Seed {plan.seed}: {len(plan.images)} images, {sum(plan.deaths.values())} deaths of task processes at named "
        f"points and {len(plan.outside)} kills from outside are planned.\n"
        "The seed decides the photos, their routes, who dies where and in which order; which tasks a kill from outside "
        "meets is up to the clock.",
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
    except PostgresMissingError as error:
        print(error, file=sys.stderr)
        return 2
    except (ProcessFailedError, TimeoutError) as error:
        print(f"{error}\nThis says nothing about the package: the run could not be made.", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ToldToStopError):
        print("\nStopped. Nothing is left running.", file=sys.stderr)
        return 130


class Run:
    """
    One run on a stack.

    :param plan: what to do
    :param stack: where
    :param options: of the command line
    """

    def __init__(self, plan: Plan, stack: Stack, options: argparse.Namespace) -> None:
        self.plan = plan
        self.stack = stack
        self.options = options
        self.began = time.monotonic()
        self.stage: Stage | None = None

    def say(self, words: str) -> None:
        """Tell what is going on."""
        print(f"{time.monotonic() - self.began:6.1f} s  {words}", flush=True)

    def run(self) -> int:
        """Do it all; return the exit code."""
        self.stage = Stage(self.stack, self.plan, self.say)
        try:
            self.stage.fill_bucket()
            self.say("starting Airflow")
            self.stage.start_airflow()
            started = time.monotonic()
            records = Records(self.stage.postgres.address)
            killer = Killer(self.stage, self.plan, self.say)
            in_time = self._watch(killer, records)
            took = time.monotonic() - started
            self._let_airflow_tidy_up(killer, records)
            evidence = gather(self.stage, self.plan, records)
            verdict = judge(self.plan, evidence)
            if not in_time:
                verdict.wrong.insert(0, f"not finished within {LONGEST} s")
            histories = {
                image.stem: history_of(image, self.stage, records, evidence)
                for image in self.plan.images
                if image.stem in verdict.wrong_images
            }
            return self._report(verdict, histories, killer, took)
        finally:
            self.stage.postgres.close()

    def _watch(self, killer: Killer, records: Records) -> bool:
        """Kill and bring back until all tasks have ended; whether that was in time."""
        import psycopg2

        killer.start()
        deadline, look_at, states = time.monotonic() + LONGEST, 0.0, Counter[str]()
        while time.monotonic() < deadline:
            killer.tick(states["success"])
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + 5
                with contextlib.suppress(psycopg2.Error):
                    states = records.states()
                    named = len(list(self._deaths()))
                    self.say(
                        f"{dict(states)}; deaths at named points {named}, from outside {sum(killer.done.values())}"
                    )
            if sum(states.values()) >= len(self.plan.images) and set(states) <= TERMINAL:
                killer.end_outages()
                if records.run_state() in TERMINAL:
                    return True
            time.sleep(0.2)
        killer.end_outages()
        return False

    def _again(self) -> str:
        sizes = (f"--{name}={getattr(self.options, name)}" for name in ("images", "deaths", "outside"))
        return f'make chaos SEED={self.plan.seed} ARGS="{" ".join(sizes)}"'

    def _deaths(self) -> Iterator[Path]:
        assert self.stage is not None
        return self.stage.deaths.glob("*.json")

    def _let_airflow_tidy_up(self, killer: Killer, records: Records) -> None:
        """Airflow drops the triggers that nobody waits for a little later."""
        import psycopg2

        deadline = time.monotonic() + TIDY_SECONDS
        while time.monotonic() < deadline:
            killer.end_outages()
            with contextlib.suppress(psycopg2.Error):
                if records.triggers() == 0 and killer.finished:
                    return
            time.sleep(0.5)

    def _report(self, verdict: Verdict, histories: dict[str, list[str]], killer: Killer, took: float) -> int:
        named = Counter(json.loads(path.read_text("utf-8"))["point"] for path in self._deaths())
        kills = sum(named.values()) + sum(killer.done.values())
        planned = sum(self.plan.deaths.values()) + len(self.plan.outside)
        if kills < planned * ENOUGH:
            verdict.wrong.append(f"only {kills} of {planned} planned kills were done: this proves less than it should")
        report = {
            "good": verdict.good,
            "seed": self.plan.seed,
            "again": self._again(),
            "images": len(self.plan.images),
            "kills": kills,
            "deaths_at_named_points": {point: named[point] for point in POINTS},
            "kills_from_outside": {target: killer.done[target] for target in OUTSIDE},
            "ended_by_themselves": dict(killer.fell),
            "accepted_posts": verdict.posts,
            "jobs_failed_unbilled": verdict.failed_jobs,
            "tries": verdict.tries,
            "most_tries_of_one_task": verdict.most_tries,
            "requests": self.stage.emulator.requests()["counts"] if self.stage else {},
            "seconds": round(took, 1),
            "seconds_with_start": round(time.monotonic() - self.began, 1),
            "wrong": verdict.wrong,
            "wrong_images": {
                stem: {"wrong": verdict.wrong_images[stem], "history": history} for stem, history in histories.items()
            },
        }
        if self.options.report:
            self.options.report.parent.mkdir(parents=True, exist_ok=True)
            self.options.report.write_text(json.dumps(report, indent=2), "utf-8")
        print(in_words(report), flush=True)
        return 0 if verdict.good else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--deaths", type=int, default=98, help="of task processes, at named points")
    parser.add_argument("--outside", type=int, default=40, help="kills from outside")
    parser.add_argument("--report", type=Path, help="a JSON file to write")
    return parser.parse_args(arguments)


def _stop(*_: int | FrameType | None) -> None:
    raise ToldToStopError


if __name__ == "__main__":
    sys.exit(main())
