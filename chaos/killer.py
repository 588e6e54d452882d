"""Kills processes from outside and starts them again, as the supervisor of a production system does."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from chaos.environment import Environment
from chaos.plan import OutsideKill, Plan, Target

TASK_PROCESS = re.compile(r"^airflow worker -- [0-9a-f]{8}-")
"""The title of a task process. The title of its supervisor, a worker of the executor, is a different one."""

LAST_KILL_AT = 0.8
"""The share of finished images at which the last kill is due. The recovery from it, up to a minute where a host of the
scheduler was killed, overlaps with the images that are left."""

MAX_WAIT = 30.0
"""Seconds after which the next kill comes although too few images have finished."""

COMPONENT: dict[Target, str] = {
    "scheduler": "scheduler",
    "scheduler_host": "scheduler",
    "triggerer": "triggerer",
    "triggerer_host": "triggerer",
    "api-server": "api-server",
    "emulator": "emulator",
    "s3": "s3",
    "postgres": "postgres",
}
"""The process that is killed and started again, by the target of a kill."""


@dataclass
class Killer:
    """
    Carries out a plan's kills from outside, in order.

    :param environment: holds the processes
    :param plan: the plan of the run
    :param report: called with a line about each kill
    """

    environment: Environment
    plan: Plan
    report: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    ended_by_themselves: Counter[str] = field(default_factory=Counter)
    """Components that ended because another one was down."""

    def __post_init__(self) -> None:
        self._pending = list(self.plan.kills)
        self._next_at = 0.0
        self._restart_at: dict[str, float] = {}
        self._s3_silent_until: float | None = None
        self._victims = random.Random(f"{self.plan.seed} victims")
        self._due: OutsideKill | None = None

    @property
    def finished(self) -> bool:
        """Whether no kill is left to do and everything is running again."""
        return not self._pending and not self._due and not self._restart_at and self._s3_silent_until is None

    def start(self) -> None:
        """Start the clock for the first kill."""
        self._next_at = time.monotonic() + self._pending[0].delay if self._pending else 0.0

    def step(self, share_of_images: float) -> None:
        """
        Do what is due now: restart processes, and kill the next target.

        :param share_of_images: the share of images that are finished. The kills are spread over the images, so that
            they meet work on any machine, however fast it is
        """
        now = time.monotonic()
        self._restart_what_is_due(now)
        share_of_kills = self.done.total() / max(len(self.plan.kills), 1)
        enough_images = share_of_images >= LAST_KILL_AT * share_of_kills
        is_time = now >= self._next_at if enough_images else now >= self._next_at + MAX_WAIT
        if self._due is None and self._pending and is_time:
            self._due = self._pending.pop(0)
        if self._due is not None and self._kill(self._due, now):
            self.done[self._due.target] += 1
            self.report(f"killed {self._due.target}")
            self._due = None
            if self._pending:
                self._next_at = now + self._pending[0].delay

    def end_outages(self) -> None:
        """Cancel the kills that are left and start everything again now."""
        self._pending.clear()
        self._due = None
        self._restart_at = dict.fromkeys(self._restart_at, 0.0)
        if self._s3_silent_until is not None:
            self._s3_silent_until = 0.0
        self._restart_what_is_due(time.monotonic())

    def _restart_what_is_due(self, now: float) -> None:
        if self._s3_silent_until is not None and now >= self._s3_silent_until:
            self._s3_silent_until = None
            self.environment.s3_proxy.kill(signal.SIGCONT)
        for name, process in self.environment.processes().items():
            if not process.running and name not in self._restart_at:
                self.ended_by_themselves[name] += 1
                self.report(f"{name} ended by itself with code {process.returncode}")
                self._restart_at[name] = now + 1
            if name in self._restart_at and now >= self._restart_at[name] and not process.running:
                process.start(leave_orphans=True)
                if name == "postgres":
                    self.environment.postgres.wait_until_up()
                del self._restart_at[name]

    def _kill(self, kill: OutsideKill, now: float) -> bool:
        """Kill a target. Returns ``False`` if it is not running at the moment."""
        target = kill.target
        if target == "task":
            return self._kill_a_task()
        if target == "postgres_backend":
            return "postgres" not in self._restart_at and self.environment.postgres.kill_backend()
        s3_is_silent = self._s3_silent_until is not None
        if target == "s3_silent":
            if s3_is_silent or "s3" in self._restart_at:
                return False
            self.environment.s3_proxy.kill(signal.SIGSTOP)
            self._s3_silent_until = now + kill.downtime
            return True
        name = COMPONENT[target]
        process = self.environment.processes()[name]
        if name in self._restart_at or not process.running or (name == "s3" and s3_is_silent):
            return False
        if target == "postgres":
            self.environment.postgres.crash()
        elif target.endswith("_host"):
            process.kill_tree()
        else:
            process.kill()
        self._restart_at[name] = now + kill.downtime
        return True

    def _kill_a_task(self) -> bool:
        tasks = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if TASK_PROCESS.match(" ".join(process.cmdline())):
                    tasks.append(process)
        if not tasks:
            return False
        with contextlib.suppress(psutil.Error):
            self._victims.choice(tasks).kill()
            return True
        return False
