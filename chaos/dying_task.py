"""The task of a process, which may have to die at a point: once at each point of its plan."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import cache
from pathlib import Path

from chaos.plan import PLAN_VARIABLE, Plan

DEATHS = "deaths"
"""The folder beside the plan with a file for each death. The next try passes a point that has its file."""


class DyingTask:
    """The task of this process: which image it is about, and whether the process is to die at a point."""

    def __init__(self) -> None:
        self.stem = ""
        self.try_number = 0

    def begin(self, stem: str, try_number: int) -> None:
        """Note what the task is about."""
        self.stem, self.try_number = stem, try_number

    def is_to_die_at(self, point: str) -> bool:
        """Whether a death at this point is planned and has not happened yet."""
        folder, deaths = _read_plan(os.environ[PLAN_VARIABLE])
        return point in deaths.get(self.stem, ()) and not (folder / f"{self.stem}.{point}.json").exists()

    def die_at(self, point: str) -> None:
        """Kill this process, if a death at this point is planned and has not happened yet."""
        if not self.is_to_die_at(point):
            return
        folder, _ = _read_plan(os.environ[PLAN_VARIABLE])
        record = {"stem": self.stem, "point": point, "at": time.time(), "pid": os.getpid(), "try": self.try_number}
        try:
            with (folder / f"{self.stem}.{point}.json").open("x", encoding="utf-8") as file:
                json.dump(record, file)
        except FileExistsError:
            return  # another process of the same task died here a moment ago
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # a signal that another thread sends takes a moment to end this one


@cache
def _read_plan(path: str) -> tuple[Path, dict[str, tuple[str, ...]]]:
    """Return the folder of the recorded deaths, and the planned deaths by image."""
    plan = Plan.read(Path(path))
    deaths: dict[str, tuple[str, ...]] = {image.stem: image.deaths for image in plan.images}
    return Path(path).with_name(DEATHS), deaths | {image.stem: image.deaths for image in plan.shared}
