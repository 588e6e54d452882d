"""A private PostgreSQL server in a temporary folder, run from the system's packages."""

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
from demo.system_packages import ServerMissingError, install

USER, DATABASE = "postgres", "airflow"
SEARCHED_FOLDERS = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt")

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "80",
    "shared_buffers": "64MB",
    # Only processes are killed, never the machine, so what was written to the kernel is not lost and commits last.
    "fsync": "off",
    "full_page_writes": "off",
    # When a backend is killed, the server ends all others and recovers by itself, as in production.
    "restart_after_crash": "on",
}


def find_or_install() -> Path:
    """Return the folder of ``initdb`` and ``postgres``. On Debian as root, install them if they are missing."""
    if found := _find():
        return found
    install("postgresql", "PostgreSQL")
    if found := _find():
        return found
    raise ServerMissingError(
        "A PostgreSQL server (initdb and postgres, 13 or newer) is missing. Install it with `apt-get install "
        "postgresql`, `dnf install postgresql-server` or `brew install postgresql`. It does not have to be running."
    )


def _find() -> Path | None:
    folders = [path.parent for searched in SEARCHED_FOLDERS for path in Path(searched).glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    complete = [folder for folder in folders if (folder / "postgres").exists()]
    return max(complete, key=lambda folder: [int(number) for number in re.findall(r"\d+", str(folder))], default=None)


class Postgres:
    """
    One server with one empty database, on a free port of the loopback interface. It ends with the stack.

    :param stack: holds its process and its folder
    """

    def __init__(self, stack: Stack) -> None:
        self._binaries = find_or_install()
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
            raise ProcessFailedError(f"initdb failed: {done.stderr or done.stdout}")

    @property
    def address(self) -> str:
        """The database, in psycopg2's notation."""
        return f"host=127.0.0.1 port={self.port} user={USER} dbname={DATABASE} connect_timeout=5"

    @property
    def airflow_url(self) -> str:
        """The value of ``[database] sql_alchemy_conn``."""
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    def wait_until_up(self, timeout: float = 60) -> None:
        """Wait until it accepts connections."""
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
        """End it at once, as ``pg_ctl stop -m immediate`` does. It recovers when it is started again."""
        self.process.kill(signal.SIGQUIT)

    def kill_backend(self) -> bool:
        """
        ``SIGKILL`` a process that serves a client. The server then ends all others too, and recovers by itself.

        :return: ``False`` if there is no such process
        """
        if self.process.pid is None:
            return False
        for child in psutil.Process(self.process.pid).children():
            if "idle" in (title := " ".join(child.cmdline())) or f" {DATABASE} " in title:
                child.kill()
                return True
        return False

    def close(self) -> None:
        """Stop it in a way that releases its shared memory, which a SIGKILL would leave behind."""
        if self.process.running:
            self.crash()
            with contextlib.suppress(ProcessFailedError):
                self.process.wait(10)
