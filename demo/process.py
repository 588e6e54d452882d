"""A process that is supervised by a guardian, see :mod:`demo.guardian`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

GUARDIAN = Path(__file__).with_name("guardian.py")
TAIL_BYTES = 64 * 1024


class ProcessFailedError(Exception):
    """
    A process ended or did not start although it was needed.

    :param message: what happened
    :param log: the file that may tell why
    """

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


class Process:
    """
    A command that does not outlive this process, however this process ends.

    :param name: a name for error messages and for the log file
    :param command: the program and its arguments
    :param env: its complete environment
    :param log_folder: the folder for ``<name>.log``, to which a restart appends
    :param scratch: a folder that is removed if this process dies without cleaning up
    :param grace: seconds between SIGTERM and SIGKILL when it is stopped
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log_folder: Path,
        scratch: Path | None = None,
        grace: float = 3.0,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.env = dict(env)
        self.log = log_folder / f"{name}.log"
        self.scratch = scratch
        self.grace = grace
        self.pid: int | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        self._former: list[tuple[subprocess.Popen[bytes], socket.socket]] = []
        self._received = b""
        self._code: int | None = None

    def start(self, *, leave_orphans: bool = False) -> None:
        """
        Start the command, or restart it, and return when it has a process id.

        :param leave_orphans: do not stop the children of a killed predecessor, as on a host without containers
        """
        if self._guardian is not None and self._lifeline is not None:
            if leave_orphans:
                self._former.append((self._guardian, self._lifeline))
            else:
                self.stop()
        self.pid = self._code = None
        self._received = b""
        ours, theirs = socket.socketpair()
        self._lifeline = ours
        guardian = [sys.executable, str(GUARDIAN), f"--lifeline={theirs.fileno()}", f"--grace={self.grace}"]
        if self.scratch:
            guardian.append(f"--scratch={self.scratch}")
        with theirs, self.log.open("ab") as log:
            self._guardian = subprocess.Popen(
                [*guardian, "--", *self.command],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal reaches only us
            )
        deadline = time.monotonic() + 30
        while self.pid is None and self._code is None and time.monotonic() < deadline:
            self._listen(timeout=0.1)
        if self.pid is None:
            self.stop()
            raise ProcessFailedError(f"{self.name} could not be started.", self.log)

    @property
    def guardian_pid(self) -> int | None:
        """The process to send a SIGTERM to after :meth:`let_go`."""
        return self._guardian.pid if self._guardian else None

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal, or ``None`` while it runs."""
        self._listen()
        return self._code

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self.pid is not None and self.returncode is None

    def ensure_running(self) -> None:
        """Raise :class:`ProcessFailedError` if the process has ended."""
        if not self.running:
            raise ProcessFailedError(f"{self.name} has ended unexpectedly with code {self.returncode}.", self.log)

    def wait_for_line(
        self, pattern: str, *, timeout: float, on_wait: Callable[[], object] | None = None
    ) -> re.Match[str]:
        """
        Wait for a line in the log.

        :param pattern: a regular expression
        :param timeout: seconds
        :param on_wait: called before each pause
        """
        deadline = time.monotonic() + timeout
        while True:
            alive = self.running
            if found := re.search(pattern, self.log.read_text("utf-8", "replace")):
                return found
            if not alive:
                self.ensure_running()
            if time.monotonic() > deadline:
                raise ProcessFailedError(f"{self.name} did not start within {timeout:g} s.", self.log)
            if on_wait:
                on_wait()
            time.sleep(0.05)

    def wait(self, timeout: float) -> int:
        """Wait until the process has ended and return its exit code."""
        deadline = time.monotonic() + timeout
        while self._code is None and time.monotonic() < deadline:
            self._listen(timeout=0.2)
        if self._code is None:
            raise ProcessFailedError(f"{self.name} is still running after {timeout:g} s.", self.log)
        return self._code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to this process only, like a crash. Its children may run until :meth:`stop`."""
        if self.running and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill_tree(self) -> None:
        """SIGKILL this process and everything that it started, directly or not, as when a machine fails."""
        for member in self._tree():
            with contextlib.suppress(psutil.Error):
                member.kill()

    def cpu_seconds(self) -> float:
        """Return the seconds of CPU that this process and everything that it started have used until now."""
        total = 0.0
        for member in self._tree():
            with contextlib.suppress(psutil.Error):
                total += sum(member.cpu_times()[:4])  # user and system, its own and those of its ended children
        return total

    def _tree(self) -> list[psutil.Process]:
        """Return this process and its descendants, also those whose parent has ended: the guardian adopts them."""
        if self._guardian is not None:
            with contextlib.suppress(psutil.Error):
                return psutil.Process(self._guardian.pid).children(recursive=True)
        return []

    def ask_to_stop(self) -> None:
        """Begin to stop the process and its descendants. :meth:`stop` waits for them."""
        for lifeline in [lifeline for _, lifeline in self._former] + ([self._lifeline] if self._lifeline else []):
            with contextlib.suppress(OSError):
                lifeline.sendall(b"stop\n")

    def stop(self) -> None:
        """Stop the process and its descendants and wait until they have ended."""
        self.ask_to_stop()
        for guardian in [guardian for guardian, _ in self._former] + ([self._guardian] if self._guardian else []):
            try:
                guardian.wait(self.grace + 15)
            except subprocess.TimeoutExpired:
                os.killpg(guardian.pid, signal.SIGKILL)
                guardian.wait()
        self._listen()
        for lifeline in [lifeline for _, lifeline in self._former] + ([self._lifeline] if self._lifeline else []):
            lifeline.close()
        self._former.clear()
        self._guardian = self._lifeline = None

    def let_go(self) -> None:
        """Let the process run without us. A SIGTERM to its guardian stops it."""
        if self._lifeline is not None:
            self._lifeline.sendall(b"keep\n")

    def tail(self, lines: int = 30) -> str:
        """Return the last lines of the log."""
        return tail(self.log, lines)

    def _listen(self, timeout: float = 0.0) -> None:
        """Read the messages of the guardian."""
        if self._lifeline is None:
            return
        self._lifeline.settimeout(timeout)
        try:
            message = self._lifeline.recv(256)
        except (TimeoutError, BlockingIOError):
            return
        except OSError:
            message = b""
        if not message and self._code is None:
            self._code = -signal.SIGKILL  # the guardian was killed
        self._received += message
        *said, self._received = self._received.split(b"\n")
        for line in said:
            word, number = line.decode().split()
            if word == "started":
                self.pid = int(number)
            else:
                self._code = int(number)


def tail(path: Path, lines: int = 30) -> str:
    """Return the last lines of a file, or nothing if it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""
