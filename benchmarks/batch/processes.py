"""
What Airflow's processes take, read from ``/proc`` while they run: CPU, memory, and how long each task process lives.

A task process is the child of a process of the LocalExecutor, and both carry the task instance's id in their title.
When it has ended, its parent's count of the CPU of its children has grown by all that it took, so nothing of its last
moments is missed. Its memory is the peak that the kernel keeps. Its life is known to within the pause between two
readings.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PAUSE = 0.05
TICKS = os.sysconf("SC_CLK_TCK")
_TITLE = re.compile(r"airflow worker -- .*?([0-9a-f]{8}-[0-9a-f-]{27})")


@dataclass
class TaskProcess:
    """
    One process in which a task instance, or a part of one, ran.

    :param task_instance: Airflow's id of it
    :param began: epoch seconds at which it was forked
    :param ended: epoch seconds at which it was seen for the last time
    :param first_bytes: resident memory when it was first seen, which it shares with what it was forked from
    :param peak_bytes: the most that was resident
    :param cpu: seconds, user and system
    """

    pid: int
    task_instance: str
    began: float
    ended: float
    first_bytes: int
    peak_bytes: int = 0
    cpu: float = 0.0

    @property
    def life(self) -> float:
        """Seconds from its start to its end: how long it held a worker slot."""
        return self.ended - self.began


@dataclass(frozen=True)
class Stat:
    """The times of a process in seconds: when it started since the system did, its CPU, and that of ended children."""

    started: float
    cpu: float
    cpu_of_children: float

    @classmethod
    def read(cls, pid: int) -> Stat:
        """Read the times of a process."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user, system, child_user, child_system = (int(field) / TICKS for field in fields[11:15])
        return cls(int(fields[19]) / TICKS, user + system, child_user + child_system)


class TaskProcesses:
    """
    Watches the task processes of a scheduler with a LocalExecutor in a thread of its own.

    :param scheduler: the process id of the scheduler
    """

    def __init__(self, scheduler: int) -> None:
        self._scheduler = scheduler
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="task-processes", daemon=True)
        self._alive: dict[int, tuple[TaskProcess, int, float]] = {}  # by pid, with the parent and its count before
        self._boot = time.time() - float(Path("/proc/uptime").read_text().split()[0])
        self.ended: list[TaskProcess] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def of(self, task_instances: set[str]) -> list[TaskProcess]:
        """Return the processes that ran these task instances and have ended."""
        return [process for process in list(self.ended) if process.task_instance in task_instances]

    def alive(self) -> list[TaskProcess]:
        """Return the processes that are running, as they were last seen."""
        return [process for process, _, _ in list(self._alive.values())]

    def _watch(self) -> None:
        while not self._stop.wait(PAUSE):
            with suppress(OSError):
                self._read_all()

    def _read_all(self) -> None:
        for worker in _children(self._scheduler):
            with suppress(OSError, ValueError):
                pids = _children(worker)
                # The count is read before a new child is noted, and it grows only when a child has ended.
                before = Stat.read(worker).cpu_of_children
                for pid in pids:
                    self._read(pid, worker, before)
                gone = [pid for pid, (_, parent, _) in self._alive.items() if parent == worker and pid not in pids]
                for pid in gone:
                    process, _, at_start = self._alive.pop(pid)
                    process.cpu = Stat.read(worker).cpu_of_children - at_start
                    if process.task_instance:
                        self.ended.append(process)

    def _read(self, pid: int, worker: int, before: float) -> None:
        now = time.time()
        if pid not in self._alive:
            began = self._boot + Stat.read(pid).started
            resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            self._alive[pid] = (TaskProcess(pid, "", began, now, resident), worker, before)
        process = self._alive[pid][0]
        if not process.task_instance and (title := _TITLE.search(Path(f"/proc/{pid}/cmdline").read_text())):
            process.task_instance = title[1]
        process.ended = now
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        if peak:  # a process that has ended and was not yet waited for has no memory
            process.peak_bytes = max(process.peak_bytes, int(peak[1]) * 1024)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_of_tree(pid: int) -> float:
    """Return the seconds of CPU that a process, its descendants and those of its children that ended have taken."""
    total = 0.0
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with suppress(OSError, psutil.NoSuchProcess):
            stat = Stat.read(process.pid)
            total += stat.cpu + stat.cpu_of_children
    return total


def memory_of_tree(pid: int) -> int:
    """Return the most that was resident of the largest process of a tree, in bytes."""
    peak = 0
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) * 1024 if found else 0)
    return peak
