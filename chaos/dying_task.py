"""The task of a process, which may have to die at a point: once for each death of its plan."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Protocol

from chaos.plan import PLAN_VARIABLE, BatchPlan, Plan

DEATHS = "deaths"
"""The folder beside the plan with a file for each death. The next try passes a death that has its file."""


class Deaths(Protocol):
    """The deaths that are planned for a task."""

    def find(self, point: str) -> Path | None:
        """Return the file that records the next death at a point, ``None`` if there is none now."""

    def reach(self, point: str) -> Path | None:
        """Say that the process is at a point. Returns the file of the death that it must die now, if any."""


class DyingTask:
    """The task of this process, and the deaths that are planned for it."""

    def __init__(self) -> None:
        self._deaths: Deaths | None = None
        self.stem = ""
        self.try_number = 0

    def begin(self, deaths: Deaths, stem: str, try_number: int) -> None:
        """
        Note what the task is about.

        :param stem: the name of its image, or of its batch
        """
        self._deaths, self.stem, self.try_number = deaths, stem, try_number

    def is_to_die_at(self, point: str) -> bool:
        """Whether a death at this point is planned and has not happened yet."""
        return self._deaths is not None and self._deaths.find(point) is not None

    def die_at(self, point: str) -> None:
        """Kill this process, if a death at this point is planned and has not happened yet."""
        path = self._deaths.reach(point) if self._deaths is not None else None
        if path is None:
            return
        record = {"stem": self.stem, "point": point, "at": time.time(), "pid": os.getpid(), "try": self.try_number}
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(record, file)
        except FileExistsError:
            return  # another process of the same task died here a moment ago
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # a signal that another thread sends takes a moment to end this one


class ImageDeaths:
    """
    The deaths of the tasks of one image, once at each point.

    :param stem: the name of the image
    """

    def __init__(self, stem: str) -> None:
        self._stem = stem

    def find(self, point: str) -> Path | None:
        """Return the file that records the death at a point, ``None`` if there is none or it has happened."""
        path, plan = read_plan()
        planned = any(point in deaths for stem, deaths in plan.deaths_by_stem if stem == self._stem)
        file = path.with_name(DEATHS) / f"{self._stem}.{point}.json"
        return file if planned and not file.exists() else None

    reach = find


class BatchDeaths:
    """
    The deaths of the task of a batch, whose threads get to a point many times.

    :param batch: the plan of the batch
    """

    def __init__(self, batch: BatchPlan) -> None:
        self._batch = batch
        self._passes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def find(self, point: str) -> Path | None:
        """Return the file that records the next death at a point, ``None`` if none is due."""
        return next((file for file, _ in self._due(point)), None)

    def reach(self, point: str) -> Path | None:
        """Count a pass. Returns the file of the death that is due at it, if any."""
        with self._lock:
            self._passes[point] += 1
            return next((file for file, passes in self._due(point) if passes <= self._passes[point]), None)

    def _due(self, point: str) -> Iterator[tuple[Path, int]]:
        path, _ = read_plan()
        due = int(due_file(path, self._batch.dag_id).read_text("utf-8"))
        for number, death in enumerate(self._batch.deaths[:due]):
            file = path.with_name(DEATHS) / f"{self._batch.dag_id}-{number:03}.{death.point}.json"
            if death.point == point and not file.exists():
                yield file, death.passes


def due_file(plan_path: Path, dag_id: str) -> Path:
    """Return the file that says how many deaths of a batch are due. The run raises it as images get their results."""
    return plan_path.with_name(DEATHS) / f"{dag_id}.due"


def read_plan() -> tuple[Path, Plan]:
    """Return the plan's file, and the plan."""
    path = Path(os.environ[PLAN_VARIABLE])
    return path, _read(path)


@cache
def _read(path: Path) -> Plan:
    return Plan.read(path)
