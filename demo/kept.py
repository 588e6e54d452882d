"""Demonstrations that were left running: remembered in a file each, ended by ``make demo-stop``."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil

from demo.stack import Stack

FOLDER = Path("demo-output") / "running"


def remember(stack: Stack, ui: str) -> None:
    """
    Leave a stack running, and note how to end it.

    :param stack: the stack
    :param ui: the address of its UI
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    pids = [process.guardian_pid for process in stack.processes.values() if process.guardian_pid]
    note = {
        "ui": ui,
        "scratch": str(stack.scratch),
        # With its start time, a number that was given to another process since is not taken for it.
        "guardians": {pid: psutil.Process(pid).create_time() for pid in pids if psutil.pid_exists(pid)},
    }
    (FOLDER / f"{stack.scratch.name}.json").write_text(json.dumps(note, indent=2), "utf-8")
    stack.keep()


def stop_all() -> int:
    """End all that were left running; return how many."""
    notes = sorted(FOLDER.glob("*.json"))
    for path in notes:
        note = json.loads(path.read_text("utf-8"))
        guardians = [found for pid, born in note["guardians"].items() if (found := _process(int(pid), born))]
        for guardian in guardians:
            guardian.send_signal(signal.SIGTERM)
        psutil.wait_procs(guardians, timeout=30)
        deadline = time.monotonic() + 10
        while Path(note["scratch"]).exists() and time.monotonic() < deadline:
            shutil.rmtree(note["scratch"], ignore_errors=True)
        path.unlink()
        print(f"Stopped {note['ui']}")
    return len(notes)


def _process(pid: int, born: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - born) < 1 else None
    except psutil.NoSuchProcess:
        return None


if __name__ == "__main__":
    if not stop_all():
        print("No demo was left running from this folder.")
    sys.exit(0)
