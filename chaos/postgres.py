"""A PostgreSQL of our own, from the system's packages, in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from demo.ports import free_ports
from demo.process import Process, ProcessFailedError
from demo.stack import Stack

USER, DATABASE = "postgres", "airflow"
PLACES = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt")

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "80",
    "shared_buffers": "64MB",
    # Processes are killed here, the machine is not: what was written to the kernel is not lost. Commits stay commits.
    "fsync": "off",
    "full_page_writes": "off",
    # So that a killed backend takes all others with it, and the server comes back by itself, as in production.
    "restart_after_crash": "on",
}


class PostgresMissingError(Exception):
    """There is no PostgreSQL server on this machine; the text says how to get one."""


def binaries() -> Path:
    """Return the folder of ``initdb`` and ``postgres``; installs them where that is Debian and we are root."""
    if found := _find():
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("PostgreSQL is missing: apt-get install postgresql", flush=True)
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", "--quiet", *command], env=env, check=True, stdout=subprocess.DEVNULL)
        if found := _find():
            return found
    raise PostgresMissingError(
        "This needs a PostgreSQL server (initdb, postgres; 13 or newer). Install it: `apt-get install postgresql`, "
        "`dnf install postgresql-server` or `brew install postgresql`. It need not run; we start one of our own."
    )


def _find() -> Path | None:
    folders = [path.parent for place in PLACES for path in Path(place).glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    fitting = [folder for folder in folders if (folder / "postgres").exists()]
    return max(fitting, key=lambda folder: [int(number) for number in re.findall(r"\d+", str(folder))], default=None)


class Postgres:
    """
    One server with one empty database, on a free port of the loopback; it ends with the stack.

    :param stack: where it runs
    """

    def __init__(self, stack: Stack) -> None:
        self._binaries = binaries()
        self._data = stack.scratch / "postgres"
        self._data.mkdir(mode=0o700)
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            owner = pwd.getpwnam(USER)
            os.chown(self._data, owner.pw_uid, owner.pw_gid)
            stack.scratch.chmod(0o711)
            self._as_user = ["setpriv", f"--reuid={USER}", f"--regid={owner.pw_gid}", "--init-groups", "--"]
        self.port = free_ports(1)[0]
        self._initialise(stack)
        options = [f"--{name}={value}" for name, value in SETTINGS.items()]
        self.process: Process = stack.start(
            "postgres",
            [*self._as_user, str(self._binaries / "postgres"), "-D", str(self._data), f"--port={self.port}", *options],
            env={"HOME": str(self._data)},
        )
        self.wait_until_up()
        self._run_sql("postgres", f"CREATE DATABASE {DATABASE}")

    def _initialise(self, stack: Stack) -> None:
        command = [*self._as_user, str(self._binaries / "initdb"), f"--pgdata={self._data}", f"--username={USER}"]
        done = subprocess.run(
            [*command, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"],
            env=stack.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ProcessFailedError(f"initdb has failed: {done.stderr or done.stdout}")

    @property
    def address(self) -> str:
        """What psycopg2 connects to."""
        return f"host=127.0.0.1 port={self.port} user={USER} dbname={DATABASE} connect_timeout=5"

    @property
    def airflow_url(self) -> str:
        """What ``[database] sql_alchemy_conn`` is to be."""
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    def wait_until_up(self, timeout: float = 60) -> None:
        """Wait until it takes connections."""
        import psycopg2

        deadline = time.monotonic() + timeout
        while True:
            try:
                self._run_sql("postgres", "SELECT 1")
            except psycopg2.OperationalError:
                self.process.ensure_running()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _run_sql(self, database: str, statement: str) -> None:
        import psycopg2

        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, dbname=database, connect_timeout=5)
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()

    def crash(self) -> None:
        """End it at once, without a checkpoint, as ``pg_ctl stop -m immediate`` does; to be started again."""
        self.process.kill(signal.SIGQUIT)

    def kill_backend(self) -> bool:
        """``SIGKILL`` a process that serves a client: the server drops all others too, and recovers by itself."""
        if self.process.pid is None:
            return False
        for child in psutil.Process(self.process.pid).children():
            if "idle" in (title := " ".join(child.cmdline())) or f" {DATABASE} " in title:
                child.kill()
                return True
        return False

    def close(self) -> None:
        """End it so that it can release its shared memory, which a plain SIGKILL would leave behind."""
        if self.process.running:
            self.crash()
            with contextlib.suppress(ProcessFailedError):
                self.process.wait(10)
