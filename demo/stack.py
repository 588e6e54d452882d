"""Processes and their scratch folder, which end together."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from demo.process import Process

DROPPED_PREFIXES = ("AIRFLOW", "AWS_", "SEGMIND_", "MOTO_", "PYTEST_", "MAKE")
DROPPED = {
    "PYTHONDONTWRITEBYTECODE",  # without compiled bytecode each task process of Airflow takes seconds longer to start
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONWARNINGS",
}
KEPT = {"AWS_CA_BUNDLE"}


class Stack:
    """
    A scratch folder and the processes that use it.

    .. code-block:: python

        with Stack() as stack:
            stack.start("sleeper", ["sleep", "1000"])

    The processes and the folder do not outlive the block, nor this process, however it ends.

    :param name: the beginning of the folder's name
    """

    def __init__(self, name: str = "segmind-demo") -> None:
        # The name is stored before the folder is made, so that an interruption in between leaves nothing behind.
        self.scratch = Path(tempfile.gettempdir()).resolve() / f"{name}-{uuid.uuid4().hex[:10]}"
        self.processes: dict[str, Process] = {}
        self.kept = False
        self._closers: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        self.scratch.mkdir(mode=0o700)
        (self.scratch / "tmp").mkdir()
        self.logs.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.kept:
            self.close()

    @property
    def logs(self) -> Path:
        """The folder with the output of the processes."""
        return self.scratch / "logs"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """
        Return our environment without settings of the caller for the programs that we start.

        :param more: variables to add
        """
        env = {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or not (name in DROPPED or name.startswith(DROPPED_PREFIXES))
        }
        local = "127.0.0.1,localhost"
        before = env.get("NO_PROXY") or env.get("no_proxy")
        env["NO_PROXY"] = env["no_proxy"] = f"{before},{local}" if before else local
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
        env["TMPDIR"] = str(self.scratch / "tmp")
        env["PYTHONUNBUFFERED"] = "1"  # output is in the log at once
        return env | dict(more or {})

    def start(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, grace: float = 3.0
    ) -> Process:
        """
        Start a process.

        :param name: a name for error messages and for the log file
        :param command: the program and its arguments
        :param env: variables to add to :meth:`environment`
        :param grace: seconds between SIGTERM and SIGKILL when it is stopped
        """
        process = Process(
            name, command, env=self.environment(env), log_folder=self.logs, scratch=self.scratch, grace=grace
        )
        self.processes[name] = process
        process.start()
        return process

    def on_close(self, closer: Callable[[], object]) -> None:
        """Register a function to call when the stack is closed, such as one that closes a client of its servers."""
        self._closers.append(closer)

    def close(self) -> None:
        """Stop all processes and remove the folder."""
        with uninterrupted():
            for closer in self._closers:
                closer()
            for process in self.processes.values():
                process.ask_to_stop()
            for process in self.processes.values():
                process.stop()
            shutil.rmtree(self.scratch, ignore_errors=True)

    def keep(self) -> list[int]:
        """Leave all processes running and return the ids of those that a SIGTERM stops."""
        self.kept = True
        for process in self.processes.values():
            process.let_go()
        return [process.guardian_pid for process in self.processes.values() if process.guardian_pid]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM, so that a second Ctrl-C does not interrupt the cleanup."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
