"""A private Redis server, Celery's broker, run from the system's packages."""

from __future__ import annotations

import shutil

from demo.ports import free_ports
from demo.process import Process
from demo.stack import Stack
from demo.system_packages import ServerMissingError, install

PROGRAM = "redis-server"


def find_or_install() -> str:
    """Return the path of ``redis-server``. On Debian as root, install it if it is missing."""
    if not shutil.which(PROGRAM):
        install("redis-server", "Redis")
    if found := shutil.which(PROGRAM):
        return found
    raise ServerMissingError(
        "A Redis server (redis-server) is missing. Install it with `apt-get install redis-server`, `dnf install redis` "
        "or `brew install redis`. It does not have to be running."
    )


class Redis:
    """
    One empty server on a free port of the loopback interface. It writes nothing to disk, and ends with the stack.

    :param stack: holds its process
    """

    def __init__(self, stack: Stack) -> None:
        self.port = free_ports(1)[0]
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        flags = [text for name, value in options.items() for text in (f"--{name}", value)]
        self.process: Process = stack.start(
            "redis", [find_or_install(), *flags, "--dir", str(stack.scratch)], env={"LC_ALL": "C"}
        )
        self.process.wait_for_line("Ready to accept connections", timeout=30)

    @property
    def url(self) -> str:
        """The value of ``[celery] broker_url``."""
        return f"redis://127.0.0.1:{self.port}/0"
