"""
Supervise one command, so that none of its processes outlives the process that started it.

Airflow's processes start others in process groups of their own, and a parent that is killed with ``SIGKILL`` cannot
clean up. Therefore each command is started by this small process. On Linux it adopts the orphans of the command. It
holds one end of a socket. When the other end is closed, because its owner closed it or died, the guardian stops the
whole process tree and removes the scratch folder.

It sends ``started <pid>`` and ``exited <code>`` over the socket, and receives ``stop`` (stop the tree, leave the
folder) or ``keep`` (continue without the owner until a ``SIGTERM``).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class Guardian:
    """
    The supervisor of one command.

    :param lifeline: our end of the socket
    :param grace: seconds between SIGTERM and SIGKILL when the tree is stopped
    :param scratch: a folder to remove if the owner dies
    """

    def __init__(self, lifeline: socket.socket, grace: float, scratch: str | None) -> None:
        self.lifeline = lifeline
        self.grace = grace
        self.scratch = scratch
        self.child = 0
        self.code: int | None = None
        self.ending = False
        self.abandoned = False

    def run(self, command: list[str]) -> int:
        """Run the command until it ends or has to be stopped, and return its exit code."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        woken = self._listen_to_signals()
        try:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                restore_signals=True,
                preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # also if the guardian is killed
            ).pid
        except OSError as error:
            print(f"cannot start {command[0]}: {error}", file=sys.stderr)
            self._report("exited 127")
            return 127
        self._report(f"started {self.child}")
        with selectors.DefaultSelector() as events:
            events.register(woken, selectors.EVENT_READ)
            events.register(self.lifeline, selectors.EVENT_READ)
            while not self.ending and not self._all_gone():
                for key, _ in events.select():
                    if key.fileobj is woken:
                        woken.recv(4096)
                    else:
                        self._hear(events)
        self._end_tree()
        if self.abandoned and self.scratch:
            self._remove(Path(self.scratch))
        return self.code if self.code is not None else 0

    def _listen_to_signals(self) -> socket.socket:
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        self._waker = waker  # keeps the socket open
        signal.set_wakeup_fd(waker.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner decides what Ctrl-C means
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._abandon)
        return woken

    def _abandon(self, *_: object) -> None:
        self.ending = self.abandoned = True

    def _hear(self, events: selectors.BaseSelector) -> None:
        try:
            message = self.lifeline.recv(64)
        except OSError:
            message = b""
        if b"keep" in message or not message:
            events.unregister(self.lifeline)
        if not message:
            self._abandon()
        elif b"stop" in message:
            self.ending = True

    def _report(self, message: str) -> None:
        with contextlib.suppress(OSError):
            self.lifeline.sendall(message.encode() + b"\n")

    def _all_gone(self) -> bool:
        """Reap ended children and return whether none is left. Orphans of the command may run until we stop them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.child:
                self.code = os.waitstatus_to_exitcode(status)
                self._report(f"exited {self.code}")

    def _end_tree(self) -> None:
        """Stop all descendants, first with SIGTERM, then with SIGKILL."""
        sigkill_at = time.monotonic() + self.grace
        signalled: set[int] = set()
        # Without adoption of orphans, a process is found only while its parent lives, so it is remembered.
        family: dict[int, psutil.Process] = {}
        while True:
            self._all_gone()
            family |= {process.pid: process for process in psutil.Process().children(recursive=True)}
            family = {pid: process for pid, process in family.items() if process.is_running()}
            if not family:
                return
            kill = time.monotonic() >= sigkill_at
            for pid, process in family.items():
                if kill or pid not in signalled:
                    signalled.add(pid)
                    with contextlib.suppress(psutil.Error):
                        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            time.sleep(0.03)

    def _remove(self, scratch: Path) -> None:
        """Remove the folder. Processes of other guardians may still write into it for a moment."""
        for _ in range(100):
            shutil.rmtree(scratch, ignore_errors=True)
            if not scratch.exists():
                return
            time.sleep(0.1)


def main() -> int:
    """Read the command line and supervise the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--grace", type=float, default=3.0)
    parser.add_argument("--scratch")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    return Guardian(socket.socket(fileno=options.lifeline), options.grace, options.scratch).run(options.command)


if __name__ == "__main__":
    sys.exit(main())
