"""
Runs one command, and sees to it that nothing of it outlives who asked for it.

Airflow's processes start processes of their own in groups of their own, and a ``SIGKILL`` of the parent gives nobody
the time to clean up. So each command has this small process above it. It adopts what the command leaves behind (Linux),
and holds one end of a socket, the lifeline: when the other end closes, because its owner closed it or died in any way,
the guardian ends the whole tree and removes the scratch folder.

Over the lifeline it reports ``started <pid>`` and ``exited <code>``, and is told ``stop`` (end the tree, leave the
folder) or ``keep`` (stay when the owner goes; a ``SIGTERM`` ends it then).
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
    """Set an attribute of this process, where the system is Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class Guardian:
    """
    The process above one command.

    :param lifeline: our end of the socket
    :param grace: seconds between SIGTERM and SIGKILL at the end
    :param scratch: a folder to remove when the owner is gone
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
        """Run the command to its end, or ours."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        woken = self._listen_to_signals()
        try:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                restore_signals=True,
                preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # even a killed guardian takes it along
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
        self._waker = waker  # else it is closed with the last reference
        signal.set_wakeup_fd(waker.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the owner's business
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._abandon)
        return woken

    def _abandon(self, *_: object) -> None:
        self.ending = self.abandoned = True

    def _hear(self, events: selectors.BaseSelector) -> None:
        try:
            words = self.lifeline.recv(64)
        except OSError:
            words = b""
        if b"keep" in words or not words:
            events.unregister(self.lifeline)
        if not words:
            self._abandon()
        elif b"stop" in words:
            self.ending = True

    def _report(self, words: str) -> None:
        with contextlib.suppress(OSError):
            self.lifeline.sendall(words.encode() + b"\n")

    def _all_gone(self) -> bool:
        """Reap what has ended; whether nothing is left. What the command leaves behind may live on until we end."""
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
        """End all descendants: politely, then not."""
        polite_until = time.monotonic() + self.grace
        signalled: set[int] = set()
        family: dict[int, psutil.Process] = {}  # on systems without adoption, an orphan is only found while it is none
        while True:
            self._all_gone()
            family |= {process.pid: process for process in psutil.Process().children(recursive=True)}
            family = {pid: process for pid, process in family.items() if process.is_running()}
            if not family:
                return
            impatient = time.monotonic() >= polite_until
            for pid, process in family.items():
                if impatient or pid not in signalled:
                    signalled.add(pid)
                    with contextlib.suppress(psutil.Error):
                        process.send_signal(signal.SIGKILL if impatient else signal.SIGTERM)
            time.sleep(0.03)

    def _remove(self, scratch: Path) -> None:
        """Remove the folder; the other guardians' processes may still be writing into it for a moment."""
        for _ in range(100):
            shutil.rmtree(scratch, ignore_errors=True)
            if not scratch.exists():
                return
            time.sleep(0.1)


def main() -> int:
    """Read the command line and stand guard."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--grace", type=float, default=3.0)
    parser.add_argument("--scratch")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    return Guardian(socket.socket(fileno=options.lifeline), options.grace, options.scratch).run(options.command)


if __name__ == "__main__":
    sys.exit(main())
