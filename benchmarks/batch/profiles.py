"""Where a process spends its CPU time, by function: each thread with cProfile, written when the process ends."""

from __future__ import annotations

import argparse
import atexit
import cProfile
import os
import pstats
import threading
import time
from pathlib import Path


def profile_this_process(folder: str | None) -> None:
    """
    Profile this process and all its threads from here on, if it runs a task and a folder for the profile is given.

    :param folder: the folder; ``None`` or empty profiles nothing
    """
    if not folder or not Path("/proc/self/cmdline").read_bytes().startswith(b"airflow worker"):
        return
    profiles: list[cProfile.Profile] = []

    def begin() -> None:
        profile = cProfile.Profile(time.thread_time)
        profiles.append(profile)
        profile.enable()

    run = threading.Thread.run

    def run_profiled(self: threading.Thread) -> None:
        begin()
        run(self)

    def write() -> None:
        for profile in profiles:
            profile.disable()
        found = pstats.Stats(profiles[0])
        for profile in profiles[1:]:
            found.add(profile)
        found.dump_stats(Path(folder, f"{os.getpid()}.profile"))

    threading.Thread.run = run_profiled  # type: ignore[method-assign]
    begin()
    atexit.register(write)


def main() -> None:
    """Print the functions of a folder of profiles that take most."""
    parser = argparse.ArgumentParser(description="Print where task processes spent their CPU time.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sort", default="tottime", choices=("tottime", "cumtime"))
    parser.add_argument("--lines", type=int, default=40)
    parser.add_argument("--only", default="", help="a regular expression of file and function")
    given = parser.parse_args()
    first, *others = sorted(given.folder.glob("*.profile"))
    found = pstats.Stats(str(first))
    for other in others:
        found.add(str(other))
    found.strip_dirs() if not given.only else None
    found.sort_stats(given.sort).print_stats(*([given.only] if given.only else []), given.lines)


if __name__ == "__main__":
    main()
