"""No process outlives a stack, and a process in it can be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from demo.airflow_processes import Airflow, any_child_ended
from demo.ports import free_ports
from demo.process import ProcessFailedError
from demo.stack import Stack

from .conftest import REPOSITORY

# A process whose child leaves its session and process group, as a daemon does.
DAEMONIZING = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
print("child", child.pid, flush=True)
time.sleep(1000)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(1000)
"""


def gone(pid: int, within: float = 10) -> bool:
    deadline = time.monotonic() + within
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not psutil.pid_exists(pid)


@pytest.fixture
def stack():
    with Stack("segmind-stack-test") as stack:
        yield stack


def test_a_process_that_ignores_sigterm_is_killed(stack):
    process = stack.start("stubborn", [sys.executable, "-c", STUBBORN], grace=0.2)
    process.wait_for_line("ready", timeout=10)
    pid = process.pid
    stack.close()
    assert gone(pid, within=0)
    assert not stack.scratch.exists()


def test_a_child_in_another_session_is_stopped(stack):
    process = stack.start("daemonizing", [sys.executable, "-c", DAEMONIZING])
    child = int(process.wait_for_line(r"child (\d+)", timeout=10)[1])
    process.kill()
    assert process.wait(timeout=10) == -signal.SIGKILL
    assert psutil.pid_exists(child), "Only the parent should have been killed."
    process.stop()
    assert gone(child, within=0)


def test_a_killed_process_can_be_started_again(stack):
    process = stack.start("daemonizing", [sys.executable, "-c", DAEMONIZING])
    first, orphan = process.pid, int(process.wait_for_line(r"child (\d+)", timeout=10)[1])
    process.kill()
    process.wait(timeout=10)
    process.start(leave_orphans=True)
    assert process.running
    assert process.pid != first
    assert psutil.pid_exists(orphan)
    process.stop()
    assert gone(orphan, within=0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_or_file_outlives_the_owner_of_a_stack(tmp_path, number):
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            import sys, time
            from demo.stack import Stack
            with Stack() as stack:
                process = stack.start("daemonizing", [sys.executable, "-c", {DAEMONIZING!r}])
                print(process.wait_for_line(r"child (\\d+)", timeout=20)[1], process.pid, flush=True)
                time.sleep(1000)
        """)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    with owner:
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 2
        owner.send_signal(number)
    assert all(gone(pid) for pid in pids)
    deadline = time.monotonic() + 10
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []


def test_the_error_about_a_process_that_ended_early_has_its_log(stack):
    process = stack.start("brief", [sys.executable, "-c", "print('out of memory'); raise SystemExit(3)"])
    with pytest.raises(ProcessFailedError, match="brief has ended unexpectedly with code 3") as failure:
        process.wait_for_line("ready", timeout=10)
    assert "out of memory" in failure.value.log.read_text()


def test_a_dead_component_is_noticed_although_airflow_standalone_still_runs(stack):
    airflow = Airflow(stack, dag_folders={})
    airflow.ensure_running()
    with_a_zombie = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', '']); time.sleep(1000)"
    process = stack.start("airflow", [sys.executable, "-c", with_a_zombie])
    deadline = time.monotonic() + 10
    while not any_child_ended(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(ProcessFailedError, match="A component of Airflow has ended unexpectedly"):
        airflow.ensure_running()


def test_the_error_about_a_program_that_does_not_exist_names_it(stack):
    with pytest.raises(ProcessFailedError, match="missing could not be started"):
        stack.start("missing", ["/no/such/program"])


def test_the_processes_do_not_see_the_settings_of_the_caller(stack, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/mine")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("SEGMIND_API_KEY", "mine")
    assert not [name for name in stack.environment() if name.startswith(("AIRFLOW", "AWS_PROFILE", "SEGMIND"))]


def test_an_occupied_port_is_not_chosen(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr("demo.ports.RANGE", range(taken, taken + 100))  # some of these may be occupied as well
        monkeypatch.setattr("demo.ports.random.sample", lambda ports, k: list(ports))
        assert taken not in free_ports(1)


def test_a_port_is_not_chosen_again_while_its_first_owner_lives(monkeypatch):
    [first] = free_ports(1)
    monkeypatch.setattr("demo.ports.RANGE", range(first, first + 100))
    monkeypatch.setattr("demo.ports.random.sample", lambda ports, k: list(ports))
    assert free_ports(1) != [first]
