"""``make demo-stop``: stop the demos that were left running. Each is recorded in a file."""

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
    Leave a stack running and record how to stop it.

    :param stack: the stack
    :param ui: the address of Airflow's UI
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    pids = [process.guardian_pid for process in stack.processes.values() if process.guardian_pid]
    record = {
        "ui": ui,
        "scratch": str(stack.scratch),
        # The start times tell these processes from later ones with the same ids.
        "guardians": {pid: psutil.Process(pid).create_time() for pid in pids if psutil.pid_exists(pid)},
    }
    (FOLDER / f"{stack.scratch.name}.json").write_text(json.dumps(record, indent=2), "utf-8")
    stack.keep()


def stop_all() -> int:
    """Stop all demos that were left running and return their number."""
    records = sorted(FOLDER.glob("*.json"))
    for path in records:
        record = json.loads(path.read_text("utf-8"))
        guardians = [found for pid, born in record["guardians"].items() if (found := _process(int(pid), born))]
        for guardian in guardians:
            guardian.send_signal(signal.SIGTERM)
        psutil.wait_procs(guardians, timeout=30)
        deadline = time.monotonic() + 10
        while Path(record["scratch"]).exists() and time.monotonic() < deadline:
            shutil.rmtree(record["scratch"], ignore_errors=True)
        path.unlink()
        print(f"Stopped {record['ui']}")
    return len(records)


def _process(pid: int, born: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - born) < 1 else None
    except psutil.NoSuchProcess:
        return None


if __name__ == "__main__":
    if not stop_all():
        print("No demo is running in the background.")
    sys.exit(0)
