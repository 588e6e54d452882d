"""Servers that come with the system's packages, such as PostgreSQL and Redis."""

from __future__ import annotations

import os
import shutil
import subprocess


class ServerMissingError(Exception):
    """A server is not on this machine. The message says how to install it."""


def install(package: str, program: str) -> None:
    """
    Install a package with apt-get, where this process may: on Debian, as root. Elsewhere nothing happens.

    :param package: its name in Debian
    :param program: what it brings, for the message
    """
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print(f"{program} is missing. Installing it with apt-get.", flush=True)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        subprocess.run(["apt-get", "--quiet", *command], env=env, check=True, stdout=subprocess.DEVNULL)
