"""
How many files and functions one image passes through, and how often the same value is parsed.

Erases one photo with ``BriaEraseForegroundOperator``, from ``execute`` to the stored object, against the emulator and
an S3 server, all in this process, and counts the calls with ``sys.setprofile``. Continuing a generator or a coroutine
counts like a call, because a reader follows both. Two waiting times are shortened; the rest is as in production.

Run it from the root of the repository: ``python -m benchmarks.structure``. The number of calls varies a little from run
to run: a job that takes longer is polled once more.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import io
import json
import logging
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

COUNTED = {
    "parse_image": ("parse_image",),
    "parse_destination": ("parse_destination",),
    "parse_location or split_s3": ("parse_location", "split_s3"),
    "a request id checked": ("is_request_id", "valid_request_id"),
}
"""What is counted: a label, and the functions behind it under their present and former names."""

NO_FUNCTIONS = {"<module>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}
"""Code objects that Python 3.11 calls like functions, and that are none to a reader."""

JOB_SECONDS = 0.3
SHORTER_WAITS: dict[str, dict[str, object]] = {
    "airflow_provider_segmind.triggers.segmind": {"EARLIEST_EVENT": 0.0},
    "airflow_provider_segmind.api.poll_schedule": {"PUBLISHED_SECONDS": {"bria-erase-foreground": JOB_SECONDS}},
}
"""Waiting times that are shortened, by module; they change no path through the code."""


class CallCounter:
    """
    A profiler for the functions of one package.

    :param package: the folder whose files are counted
    :param without: a folder below it that is left out
    """

    def __init__(self, package: Path, without: Path) -> None:
        self.package = f"{package}{os.sep}"
        self.without = f"{without}{os.sep}"
        self.files: set[str] = set()
        self.functions: set[tuple[str, str]] = set()
        self.calls: Counter[str] = Counter()
        self.switches = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count while the block runs, in this thread and in those that it starts."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not self._counts(frame) or code.co_name in NO_FUNCTIONS:
            return
        self.files.add(code.co_filename)
        self.functions.add((code.co_filename, code.co_qualname))
        self.calls[code.co_name] += 1
        caller = frame.f_back
        if caller is not None and self._counts(caller) and caller.f_code.co_filename != code.co_filename:
            self.switches += 1

    def _counts(self, frame: FrameType) -> bool:
        name = frame.f_code.co_filename
        return name.startswith(self.package) and not name.startswith(self.without)


def draw_photo() -> bytes:
    """Return a PNG with a subject that the emulator finds."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (120, 90), (90, 160, 120))
    ImageDraw.Draw(picture).ellipse((40, 25, 80, 65), fill=(220, 20, 20))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


class TaskStateStore:
    """What Airflow 3.3 gives a task to remember things by, in memory."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, key: str, default: object = None) -> Any:
        """Return a value as JSON gives it back."""
        return json.loads(self._values[key]) if key in self._values else default

    def set(self, key: str, value: object, **_: object) -> None:
        """Keep a value."""
        self._values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        """Drop a value."""
        self._values.pop(key, None)


class TaskInstance:
    """As much of Airflow's task instance as an operator uses."""

    max_tries = 0

    def xcom_push(self, key: str, value: object) -> None:
        """Accept a value, as nobody reads it here."""


def erase(image: str, destination: str) -> dict[str, Any]:
    """
    Run the operator as Airflow does: a worker submits, the trigger waits, a worker stores, each with a new object.

    :return: what the task returns
    """
    from airflow.providers.common.compat.sdk import TaskDeferred

    from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

    def operator() -> BriaEraseForegroundOperator:
        return BriaEraseForegroundOperator(
            task_id="erase", image=image, destination=destination, poll_interval=JOB_SECONDS
        )

    async def event_of(trigger: Any) -> Any:
        return (await anext(trigger.run())).payload

    context: Any = {"ti": TaskInstance(), "task_state_store": TaskStateStore()}
    try:
        return operator().execute(context)
    except TaskDeferred as deferral:
        path, arguments = deferral.trigger.serialize()
        method = deferral.method_name
    module, _, name = path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**arguments)
    event = json.loads(json.dumps(asyncio.run(event_of(trigger))))
    facts: dict[str, Any] = getattr(operator(), method)(context, event=event)
    return facts


@contextmanager
def services() -> Iterator[str]:
    """Start the emulator and an S3 server, connect Airflow to them, and return the address of a photo in S3."""
    from moto.server import ThreadedMotoServer

    from airflow_provider_segmind.emulator import SegmindEmulator

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    extra = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
    aws = {"conn_type": "aws", "login": "AKIATEST", "password": "secret", "extra": extra}
    os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(aws)
    try:
        with SegmindEmulator(job_seconds=JOB_SECONDS, job_sigma=0) as emulator:
            os.environ["AIRFLOW_CONN_SEGMIND_DEFAULT"] = emulator.connection
            yield put_photo()
    finally:
        server.stop()


def put_photo() -> str:
    """Store the photo in a bucket and return its address."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    s3 = S3Hook().get_conn()
    s3.create_bucket(Bucket="photos")
    s3.put_object(Bucket="photos", Key="incoming/cup.png", Body=draw_photo())
    return "s3://photos/incoming/cup.png"


def source_lines(package: Path, without: Path) -> list[int]:
    """Return the number of lines of each file of the package."""
    files = [path for path in sorted(package.rglob("*.py")) if without not in path.parents]
    return [len(path.read_text().splitlines()) for path in files]


def main() -> None:
    """Erase one photo and print what that took."""
    parser = argparse.ArgumentParser(description="Measure how much code one image passes through.")
    parser.add_argument("--files", action="store_true", help="also list the files on the image's way")
    list_files = parser.parse_args().files
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the S3 server's line for each request
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"AIRFLOW_HOME": home, "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
        import airflow_provider_segmind

        package = Path(airflow_provider_segmind.__file__).parent
        for module, waits in SHORTER_WAITS.items():
            for name, value in waits.items():
                setattr(importlib.import_module(module), name, value)
        counter = CallCounter(package, package / "emulator")
        lines = source_lines(package, package / "emulator")
        with services() as image:
            erase(image, "s3://photos/warm-up/")  # imports and caches of the first image are no part of one image's way
            with counter.running():
                facts = erase(image, "s3://photos/erased/")
    print(f"One image, from execute to {facts['uri']}, without the emulator:")
    print(f"{len(lines):6}  files in the package, {sum(lines):,} lines")
    print(f"{len(counter.files):6}  files on the image's way")
    print(f"{len(counter.functions):6}  functions")
    print(f"{counter.switches:6}  calls from one file into another")
    for label, names in COUNTED.items():
        print(f"{sum(counter.calls[name] for name in names):6}  times {label}")
    for name in sorted(counter.files) if list_files else ():
        print(f"        {Path(name).relative_to(package)}")


if __name__ == "__main__":
    main()
