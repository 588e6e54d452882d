"""``make demo`` as a user runs it: to its end, with a bad image, interrupted, and left running."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from tests.photos import photo

from .conftest import REPOSITORY


@contextlib.contextmanager
def starting(folder: Path):
    """Yield a function that starts the demo in an empty folder, with its temporary files in another."""
    temporary = folder / "temporary files"
    temporary.mkdir()
    settings = {"IMAGE", "KEEP", "SEGMIND_API_KEY", "SEGMIND_API_URL"}
    env = {name: value for name, value in os.environ.items() if name not in settings}
    started = []

    def start(module="demo", **more):
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=folder,
            env=env | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(temporary)} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell makes its background jobs ignore SIGINT, and their children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        process.temporary = temporary
        started.append(process)
        return process

    yield start
    for process in started:  # a failed test may have left them running
        with process:
            process.kill()
    for process in processes_using(temporary):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture
def start_demo(tmp_path):
    with starting(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def finished_demos(tmp_path_factory):
    """Run two demos at the same time: one with the photo of this repository, one with a file that is not a photo."""
    good, bad = tmp_path_factory.mktemp("good"), tmp_path_factory.mktemp("bad")
    (bad / "holiday.png").write_text("Dear diary, ...")
    with starting(good) as start_good, starting(bad) as start_bad:
        demos = {"good": start_good(), "bad": start_bad(IMAGE="holiday.png")}
        for demo in demos.values():
            demo.output, demo.errors = demo.communicate(timeout=240)
        yield demos


@pytest.fixture
def demo(start_demo):
    return start_demo()


def processes_using(folder: Path) -> list[psutil.Process]:
    """Return the processes whose arguments or environment name a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and str(folder) in f"{process.cmdline()} {process.environ().values()}":
                found.append(process)
    return found


def assert_nothing_is_left(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while (list(folder.iterdir()) or processes_using(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (list(folder.iterdir()), processes_using(folder)) == ([], [])


def wait_for_process(owner: psutil.Process, words: str) -> list[psutil.Process]:
    """Wait until the command line of a descendant contains these words, and return all descendants."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        family = owner.children(recursive=True)
        for process in family:
            try:
                if words in " ".join(process.cmdline()):
                    return family
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.05)
    raise AssertionError(f"No process with {words!r} has started.")


def test_the_demo_reports_its_run_and_writes_a_picture(finished_demos):
    demo = finished_demos["good"]
    assert demo.returncode == 0, demo.output + demo.errors
    output = demo.output
    states = re.findall(r"^ +[\d.]+ s  (\w+)", output, re.MULTILINE)
    assert [state for state in states if state in {"running", "submitted", "deferred", "success"}] == [
        "running",
        "submitted",
        "deferred",
        "running",
        "success",
    ]
    assert re.search(r"^Requests +\d+ to the API \(1 submit, ", output, re.MULTILINE)
    assert re.search(r"^Cost +0\.\d+ USD", output, re.MULTILINE)
    assert re.search(r"^Result +s3://photos/erased/astronaut\.png ", output, re.MULTILINE)
    with Image.open(Path(re.search(r"^Picture +(.+)$", output, re.MULTILINE)[1])) as picture:
        assert picture.width > 2 * 480
    assert_nothing_is_left(demo.temporary)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demo_leaves_no_process_or_file_behind(demo, number):
    family = wait_for_process(psutil.Process(demo.pid), "airflow standalone")
    demo.send_signal(number)
    output, errors = demo.communicate(timeout=30)
    assert demo.returncode == (-number if number == signal.SIGKILL else 128 + number), output + errors
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert_nothing_is_left(demo.temporary)


def test_a_demo_with_a_file_that_is_not_a_photo_ends_with_advice_and_leaves_nothing_behind(finished_demos):
    demo = finished_demos["bad"]
    assert demo.returncode == 1, demo.errors
    assert "holiday.png is " in demo.errors
    assert "IMAGE must be a JPEG, PNG or WEBP" in demo.errors
    assert_nothing_is_left(demo.temporary)


@pytest.fixture
def photo_host():
    """Serve one photo over HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = photo(kind="JPEG")
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.segmind_emulator(job_seconds=2)
def test_a_demo_with_an_account_can_be_left_running_until_it_is_stopped(start_demo, segmind_emulator, photo_host):
    key = segmind_emulator.key
    account = {"SEGMIND_API_KEY": key, "SEGMIND_API_URL": segmind_emulator.url}
    demo = start_demo(IMAGE=f"{photo_host}/cup.jpg", KEEP="1", **account)
    try:
        output, errors = demo.communicate(timeout=240)
        assert demo.returncode == 0, output + errors
        assert f"The real Segmind service at {segmind_emulator.url} will process the photo" in output
        assert [job.image for job in segmind_emulator.jobs] == [f"{photo_host}/cup.jpg"]
        with Image.open(Path(re.search(r"^Picture +(.+)$", output, re.MULTILINE)[1])) as picture:
            assert picture.width > 2 * 120

        ui = re.search(r"Airflow is still running at (\S+)", output)[1]
        assert httpx.get(f"{ui}/api/v2/version", trust_env=False).is_success
        [scratch] = demo.temporary.iterdir()
        kept = {path: path.read_bytes() for path in scratch.rglob("*") if path.is_file()}
        assert any(segmind_emulator.jobs[0].request_id.encode() in content for content in kept.values())
        assert [path for path, content in kept.items() if key.encode() in content] == []
        assert key not in output + errors
    finally:
        stopped, errors = start_demo("demo.stop").communicate(timeout=60)
    assert stopped == f"Stopped {ui}\n", errors
    assert_nothing_is_left(demo.temporary)
    assert start_demo("demo.stop").communicate(timeout=60)[0] == "No demo is running in the background.\n"


@pytest.mark.parametrize(
    ("image", "error"),
    [("nowhere.jpg", "neither a file nor an https:// address"), (__file__, "must be a JPEG, PNG or WEBP")],
)
def test_an_unusable_image_is_refused_before_anything_starts(image, error):
    ended = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=REPOSITORY,
        env={**os.environ, "IMAGE": image},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert error in ended.stderr
