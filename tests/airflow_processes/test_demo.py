"""``make demo``, as a user sees it: to its end, to a bad one, broken off, and left running."""

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
    """Lend a function that starts the demo in an empty folder, its temporary files in another."""
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
            # Where the tests themselves run in a shell's background, a Ctrl-C would be ignored from birth on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        process.temporary = temporary
        started.append(process)
        return process

    yield start
    for process in started:  # end what a failed test leaves
        with process:
            process.kill()
    for process in processes_about(temporary):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture
def start_demo(tmp_path):
    with starting(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def ended_demos(tmp_path_factory):
    """Two demos at the same time, to their ends: one of the photo that is shipped, one of a photo that is none."""
    good, bad = tmp_path_factory.mktemp("good"), tmp_path_factory.mktemp("bad")
    (bad / "holiday.png").write_text("Dear diary, ...")
    with starting(good) as start_good, starting(bad) as start_bad:
        demos = {"good": start_good(), "bad": start_bad(IMAGE="holiday.png")}
        for demo in demos.values():
            demo.said, demo.complaints = demo.communicate(timeout=170)
        yield demos


@pytest.fixture
def demo(start_demo):
    return start_demo()


def processes_about(folder: Path) -> list[psutil.Process]:
    """Return the processes that work in a folder: they are told of it in their arguments or their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and str(folder) in f"{process.cmdline()} {process.environ().values()}":
                found.append(process)
    return found


def assert_nothing_is_left(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while (list(folder.iterdir()) or processes_about(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (list(folder.iterdir()), processes_about(folder)) == ([], [])


def wait_for_process(owner: psutil.Process, words: str) -> list[psutil.Process]:
    """Return all descendants as soon as the command line of one has these words."""
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
    raise AssertionError(f"no process with {words!r}")


def test_the_demo_ends_with_a_picture(ended_demos):
    demo = ended_demos["good"]
    said = demo.said
    assert demo.returncode == 0, said + demo.complaints
    states = re.findall(r"^ +[\d.]+ s  (\w+)", said, re.MULTILINE)
    assert [state for state in states if state in {"running", "submitted", "deferred", "success"}] == [
        "running",
        "submitted",
        "deferred",
        "running",
        "success",
    ]
    assert re.search(r"^Requests +\d+ to the API \(1 submit, ", said, re.MULTILINE)
    assert re.search(r"^Cost +0\.\d+ USD", said, re.MULTILINE)
    assert re.search(r"^Result +s3://photos/erased/astronaut\.png ", said, re.MULTILINE)
    with Image.open(Path(re.search(r"^Picture +(.+)$", said, re.MULTILINE)[1])) as picture:
        assert picture.width > 2 * 480
    assert_nothing_is_left(demo.temporary)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_broken_off_demo_leaves_nothing_behind(demo, number):
    family = wait_for_process(psutil.Process(demo.pid), "airflow standalone")
    demo.send_signal(number)
    said, complaints = demo.communicate(timeout=30)
    assert demo.returncode == (-number if number == signal.SIGKILL else 128 + number), said + complaints
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert_nothing_is_left(demo.temporary)


def test_a_photo_that_is_none_ends_the_demo_with_advice_and_leaves_nothing_behind(ended_demos):
    demo = ended_demos["bad"]
    assert demo.returncode == 1, demo.complaints
    assert "Invalid image" in demo.complaints
    assert "An IMAGE of yours must be a JPEG, PNG or WEBP" in demo.complaints
    assert_nothing_is_left(demo.temporary)


@pytest.fixture
def photo_host():
    """A web server with one photo."""

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
def test_an_account_of_ones_own_is_used_and_what_is_kept_goes_on_until_it_is_stopped(
    start_demo, segmind_emulator, photo_host
):
    key = segmind_emulator.key
    account = {"SEGMIND_API_KEY": key, "SEGMIND_API_URL": segmind_emulator.url}
    demo = start_demo(IMAGE=f"{photo_host}/cup.jpg", KEEP="1", **account)
    try:
        said, complaints = demo.communicate(timeout=170)
        assert demo.returncode == 0, said + complaints
        assert f"The REAL Segmind service at {segmind_emulator.url} does the work" in said
        assert [job.image for job in segmind_emulator.jobs] == [f"{photo_host}/cup.jpg"]
        with Image.open(Path(re.search(r"^Picture +(.+)$", said, re.MULTILINE)[1])) as picture:
            assert picture.width > 2 * 120

        ui = re.search(r"Airflow goes on at (\S+)", said)[1]
        assert httpx.get(f"{ui}/api/v2/version", trust_env=False).is_success
        [scratch] = demo.temporary.iterdir()
        kept = {path: path.read_bytes() for path in scratch.rglob("*") if path.is_file()}
        assert any(segmind_emulator.jobs[0].request_id.encode() in content for content in kept.values())
        assert [path for path, content in kept.items() if key.encode() in content] == []
        assert key not in said + complaints
    finally:
        stopped, complaints = start_demo("demo.kept").communicate(timeout=60)
    assert stopped == f"Stopped {ui}\n", complaints
    assert_nothing_is_left(demo.temporary)
    assert start_demo("demo.kept").communicate(timeout=60)[0] == "No demo was left running from this folder.\n"


@pytest.mark.parametrize(
    ("image", "complaint"),
    [("nowhere.jpg", "neither an https:// address nor a file"), (__file__, "no JPEG, PNG or WEBP")],
)
def test_an_image_that_is_none_is_refused_at_once(image, complaint):
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
    assert complaint in ended.stderr
