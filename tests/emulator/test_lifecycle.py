"""Start, stop, crash and restart of the emulator, and its command line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from airflow_provider_segmind.emulator import SegmindEmulator
from airflow_provider_segmind.emulator.__main__ import parse
from airflow_provider_segmind.emulator.settings import Settings

from .conftest import Client
from .photos import inline, photo, subject_pixels


@contextlib.contextmanager
def process(*options, **environment):
    """Run the command; yield the process and a client."""
    command = [sys.executable, "-m", "airflow_provider_segmind.emulator", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            line = running.stdout.readline()
            url = re.fullmatch(r"Segmind emulator at (http://127\.0\.0\.1:\d+)\n", line)
            assert url, line + running.stderr.read()
            with Client(base_url=url[1], headers={"x-api-key": "any"}, trust_env=False, timeout=10) as client:
                yield running, client
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_exits_cleanly_on_a_signal(number, tmp_path):
    with process("--job-seconds", "0", "--job-sigma", "0") as (running, client):
        client.run()
        hanging = threading.Thread(target=_ask, args=(client.base_url,))
        client.switch_on("hang_before_accept", on="credits", times=None)
        hanging.start()
        _until(lambda: client.get("/emulator/requests").json()["counts"].get("credits"))
        running.send_signal(number)
        assert running.wait(5) == 0
        assert running.stderr.read() == ""
        hanging.join()


def _ask(url):
    with contextlib.suppress(httpx.TransportError):
        httpx.get(url.join("/v1/get-user-credits"), headers={"x-api-key": "any"}, trust_env=False, timeout=20)


def _until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_jobs_and_files_survive_a_kill_and_a_restart(tmp_path):
    options = ("--data-dir", str(tmp_path), "--job-seconds", "2", "--job-sigma", "0")
    with process(*options) as (running, client):
        client.switch_on("job_takes", seconds=0)
        done = client.submitted()
        output = httpx.URL(client.finished(done).json()["output"])
        client.get(output.path)
        client.switch_on("job_fails", text="planned")
        doomed, unfinished = client.submitted(), client.submitted()
        assert client.status(unfinished).json()["status"] != "COMPLETED"
        running.send_signal(signal.SIGKILL)
        running.wait(5)
    with process(*options) as (_, client):
        assert client.status(done).json()["status"] == "COMPLETED"
        assert subject_pixels(client.get(output.path).content) == 0
        assert client.finished(unfinished).json()["status"] == "COMPLETED"
        assert client.finished(doomed).json()["error"] == "planned"
        body = client.get("/emulator/jobs").json()
        assert [job["request_id"] for job in body["jobs"]] == [done, doomed, unfinished]
        assert list(body["jobs"][0]["downloads"].values()) == [2]
        assert (body["spent"], body["balance"]) == (0.06, 99.94)


def test_without_a_data_dir_no_files_or_threads_are_left_behind():
    with SegmindEmulator(job_seconds=0, job_sigma=0) as emulator:
        folder = Path(emulator._temporary.name)
        assert (folder / "jobs.sqlite3").exists()
    assert not folder.exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("segmind-emulator")]


def test_stop_does_not_wait_for_hanging_clients_and_running_jobs(connect):
    emulator = SegmindEmulator(job_seconds=60).start()
    client = connect(emulator, timeout=30)
    client.submitted()
    emulator.faults.add("hang_before_accept", on="credits")
    asking = threading.Thread(target=_ask, args=(client.base_url,))
    asking.start()
    _until(lambda: emulator.requests.counts["credits"])
    emulator.stop()  # the client would wait for 20 s, the job for a minute
    [job] = emulator.jobs
    assert job.finished is None
    asking.join()
    assert "credits" not in emulator.requests.statuses


def test_each_emulator_has_its_own_port_and_jobs(connect):
    with SegmindEmulator() as one, SegmindEmulator() as other:
        connect(one).submitted()
        assert one.url != other.url
        assert (len(one.jobs), len(other.jobs)) == (1, 0)


def test_an_emulator_can_restart_with_the_same_port_and_folder(tmp_path, connect):
    with SegmindEmulator(data_dir=tmp_path) as emulator:
        connect(emulator).submitted()
    port = int(emulator.url.rpartition(":")[2])
    with SegmindEmulator(data_dir=tmp_path, port=port) as emulator:
        assert len(emulator.jobs) == 1


def test_a_port_in_use_is_reported(capsys):
    from airflow_provider_segmind.emulator.__main__ import main

    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert main(["--port", port]) == 1
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    assert f"Cannot start the emulator on 127.0.0.1:{port}" in capsys.readouterr().err


def test_an_unusable_database_makes_the_start_fail(tmp_path):
    (tmp_path / "jobs.sqlite3").write_text("this is no database" * 100)
    emulator = SegmindEmulator(data_dir=tmp_path)
    with pytest.raises(RuntimeError, match="did not start"):
        emulator.start()


def test_the_command_line_has_every_option():
    options = {
        "--host": "::1",
        "--port": "0",
        "--key": "SG_x",
        "--job-seconds": "3",
        "--job-sigma": "0.5",
        "--requests-per-minute": "5",
        "--rate-window": "2",
        "--record-seconds": "9",
        "--file-seconds": "8",
        "--history-delay": "1",
        "--credits": "4",
        "--max-image-mb": "7",
        "--seed": "6",
        "--data-dir": "somewhere",
    }
    settings = parse([part for option in options.items() for part in option])
    assert settings == Settings(
        host="::1", port=0, key="SG_x", job_seconds=3, job_sigma=0.5, requests_per_minute=5, rate_window=2,
        record_seconds=9, file_seconds=8, history_delay=1, credits=4, max_image_mb=7, seed=6,
        data_dir=Path("somewhere"),
    )  # fmt: skip


def test_the_defaults_of_the_command_line_are_those_of_the_service():
    settings = parse([])
    assert (settings.port, settings.job_seconds, settings.job_sigma, settings.record_seconds) == (
        8765,
        11.97,
        0.15,
        3600,
    )
    assert settings.file_seconds == 7 * 24 * 3600


def test_the_help_shows_each_default_once(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "None" not in said
    assert said.count("(default: ") == len(dataclasses.fields(Settings))


@pytest.mark.parametrize(
    "option", [["--job-seconds", "-1"], ["--requests-per-minute", "0"], ["--rate-window", "0"], ["--key", ""]]
)
def test_an_option_out_of_range_is_rejected_by_name(option, capsys):
    with pytest.raises(SystemExit):
        parse(option)
    assert option[0][2:].replace("-", "_") in capsys.readouterr().err


def test_a_hundred_jobs_run_at_once(connect):
    with SegmindEmulator(job_seconds=0.2, job_sigma=0) as emulator:
        client = connect(emulator)
        ids = [client.submitted(inline(photo())) for _ in range(100)]
        assert {client.finished(request_id).json()["status"] for request_id in ids} == {"COMPLETED"}
        assert json.loads(emulator.connection)["host"] == emulator.url
