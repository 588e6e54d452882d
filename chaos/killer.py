"""Kills from outside, and brings back what is dead, as the supervisor of a production system does."""

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

from chaos.plan import OutsideKill, Plan, Target
from chaos.stage import Stage
from demo.process import Process

TASK = re.compile(r"^airflow worker -- [0-9a-f]{8}-")
"""The title of a task process. Its supervisor, a worker of the executor, is called otherwise."""

PACE = 0.9
"""The share of the images at which the last kill is due."""

GET_SECONDS = 30.0
"""Seconds after which the next kill comes all the same where the images do not get on."""

RESTARTED_AS: dict[Target, str] = {
    "scheduler": "scheduler",
    "scheduler_host": "scheduler",
    "triggerer": "triggerer",
    "triggerer_host": "triggerer",
    "api-server": "api-server",
    "emulator": "emulator",
    "s3": "s3",
    "postgres": "postgres",
}


@dataclass
class Killer:
    """
    Carries out a plan's kills from outside, in its order.

    :param stage: whom to kill
    :param plan: in which order, and how far apart
    :param say: told each kill
    """

    stage: Stage
    plan: Plan
    say: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    fell: Counter[str] = field(default_factory=Counter)
    """Components that ended by themselves, because something else was away."""

    def __post_init__(self) -> None:
        self._left = list(self.plan.outside)
        self._next_at = 0.0
        self._back_at: dict[str, float] = {}
        self._silent_until = 0.0
        self._draw = random.Random(f"{self.plan.seed} victims")
        self._due: OutsideKill | None = None

    @property
    def finished(self) -> bool:
        """Whether all has been done and everything runs again."""
        return not self._left and not self._due and not self._back_at and not self._silent_until

    def start(self) -> None:
        """Begin to count the time."""
        self._next_at = time.monotonic() + self._left[0].after if self._left else 0.0

    def tick(self, finished: int) -> None:
        """
        Do what is due.

        :param finished: how many images are done: the kills keep pace with them, however fast the machine is
        """
        now = time.monotonic()
        self._bring_back(now)
        pace = len(self.plan.images) * PACE * sum(self.done.values()) / max(len(self.plan.outside), 1)
        waited = now >= self._next_at + GET_SECONDS
        if self._due is None and self._left and now >= self._next_at and (finished >= pace or waited):
            self._due = self._left.pop(0)
        if self._due is not None and self._strike(self._due, now):
            self.done[self._due.target] += 1
            self.say(f"killed {self._due.target}")
            self._due = None
            if self._left:
                self._next_at = now + self._left[0].after

    def end_outages(self) -> None:
        """Bring everything back now."""
        self._left.clear()
        self._due = None
        self._back_at = dict.fromkeys(self._back_at, 0.0)
        self._silent_until = min(self._silent_until, 0.001)
        self._bring_back(time.monotonic())

    def _bring_back(self, now: float) -> None:
        if self._silent_until and now >= self._silent_until:
            self._silent_until = 0.0
            self.stage.relay.kill(signal.SIGCONT)
        for name, process in self.stage.processes().items():
            if not process.running and name not in self._back_at:
                self.fell[name] += 1
                self.say(f"{name} has ended by itself with code {process.returncode}")
                self._back_at[name] = now + 1
            if name in self._back_at and now >= self._back_at[name]:
                if process.running:
                    continue
                process.start(leave_orphans=True)
                if name == "postgres":
                    self.stage.postgres.wait_until_up()
                del self._back_at[name]

    def _strike(self, kill: OutsideKill, now: float) -> bool:
        """Kill; ``False``: the victim is not there just now."""
        target = kill.target
        if target == "task":
            return self._kill_a_task()
        if target == "postgres_backend":
            return "postgres" not in self._back_at and self.stage.postgres.kill_backend()
        if target == "s3_silent":
            if self._silent_until or "s3" in self._back_at:
                return False
            self.stage.relay.kill(signal.SIGSTOP)
            self._silent_until = now + kill.down
            return True
        name = RESTARTED_AS[target]
        process = self.stage.processes()[name]
        if name in self._back_at or not process.running or (name == "s3" and self._silent_until):
            return False
        if target == "postgres":
            self.stage.postgres.crash()
        elif target.endswith("_host"):
            _kill_with_children(process)
        else:
            process.kill()
        self._back_at[name] = now + kill.down
        return True

    def _kill_a_task(self) -> bool:
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if TASK.match(" ".join(process.cmdline())):
                    found.append(process)
        if not found:
            return False
        with contextlib.suppress(psutil.Error):
            self._draw.choice(found).kill()
            return True
        return False


def _kill_with_children(process: Process) -> None:
    """Kill a component with all that it started; those of its predecessors that live on too."""
    family: list[psutil.Process] = []
    for guardian in [process.guardian_pid] if process.guardian_pid else []:
        with contextlib.suppress(psutil.Error):
            family += psutil.Process(guardian).children(recursive=True)
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
