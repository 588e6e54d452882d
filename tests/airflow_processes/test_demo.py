"""``make demo``, as a user sees it: to its end, and broken off."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from .conftest import REPOSITORY


@pytest.fixture
def demo(tmp_path):
    """Start the demo in an empty folder, its scratch folder in another; end what a failed test leaves."""
    temporary = tmp_path / "temporary files"
    temporary.mkdir()
    env = {name: value for name, value in os.environ.items() if name not in {"IMAGE", "KEEP", "SEGMIND_API_KEY"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=tmp_path,
        env=env | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Where the tests themselves run in a shell's background, a Ctrl-C would be ignored from birth on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    process.temporary = temporary
    with process:
        yield process
        process.kill()


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


def test_the_demo_ends_with_a_picture(demo):
    said, _ = demo.communicate(timeout=170)
    assert demo.returncode == 0, said
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
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_broken_off_demo_leaves_nothing_behind(demo, number):
    family = wait_for_process(psutil.Process(demo.pid), "airflow standalone")
    demo.send_signal(number)
    said, _ = demo.communicate(timeout=30)
    assert demo.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    deadline = time.monotonic() + 10
    while list(demo.temporary.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(demo.temporary.iterdir()) == []


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
