"""
The CPU time of the two worker parts of one deferrable image, next to a script that makes the same requests.

*Ours* is ``BriaEraseForegroundOperator``: ``execute``, which ends in the deferral, and ``execute_complete`` with the
event that the trigger would send. The *script* is what a user would write with ``httpx.Client`` and ``S3Hook``: the
same checks before paying, one POST, the download to a temporary file, ``load_file_obj``. Neither waits for the job.

Warm: both in one process, after three images of each. Cold: each of our parts in a fresh process, the script in one
fresh process, and the script cut in two like ours, so that each half needs its own clients; what Airflow's task process
has imported by then is imported first and not counted. They alternate. CPU time is that of the process, all threads
included. The servers run in another process and count the requests, which must be the same for all.

Run it from the root of the repository: ``python -m benchmarks.worker_parts``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, repeat
from typing import TYPE_CHECKING, Any, cast

from benchmarks.worker_services import KEY, PHOTO, Addresses, services

if TYPE_CHECKING:
    import httpx
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

WARM_UPS = 3
CASES = {
    "https to a key": ("{segmind}/files/photo.png", "s3://results/erased/cup.png"),
    "s3 to a key": (PHOTO, "s3://results/erased/cup.png"),
    "https to a prefix": ("{segmind}/files/photo.png", "s3://results/erased/"),
    "s3 to a prefix": (PHOTO, "s3://results/erased/"),
}
"""Source and destination by the case's name."""

_numbers = count()

CHECKED = {
    "none, it stays at Segmind": None,
    "an S3 key": CASES["https to a key"][1],
    "an S3 prefix": "s3://results/erased/",
}
"""Destinations whose checks are measured, all with an https source: what is in S3 then is the destination alone."""

PREPARE = """
import gc
import airflow.sdk, airflow.sdk.execution_time.supervisor, airflow.sdk.execution_time.task_runner
airflow.sdk.execution_time.task_runner.get_listener_manager()
gc.collect()
gc.freeze()
"""
"""
What a task process of Airflow 3 has behind it when it parses the DAG file: imports and the loading of plugins. It is
forked from a process that has frozen its objects (``LocalExecutor._spawn_workers_with_gc_freeze``). Without that, one
full garbage collection of Airflow's own objects, 110 ms, falls into about each process that imports boto3.
"""


@dataclass(frozen=True)
class Row:
    """The milliseconds of CPU that one image takes in one case."""

    case: str
    warm: bool
    ours: tuple[float, ...]
    script: tuple[float, ...]
    halves: tuple[float, ...]  # the script cut in two processes, as ours is; none where warm
    requests: int  # of each, the same for all


@dataclass(frozen=True)
class CheckRow:
    """The milliseconds of CPU of our first part with one destination; what its check costs is the difference."""

    destination: str
    warm: tuple[float, ...]
    cold: tuple[float, ...]


class Store:
    """What Airflow 3.3 gives a task to remember things by, in memory."""

    def __init__(self, values: dict[str, str] | None = None) -> None:
        self.values = dict(values or {})

    def get(self, key: str, default: object = None) -> Any:
        """Return a value as JSON gives it back."""
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: object, **_: object) -> None:
        """Keep a value."""
        self.values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        """Drop a value."""
        self.values.pop(key, None)


class TaskInstance:
    """As much of Airflow's task instance as the operator uses."""

    max_tries = 0

    def xcom_push(self, key: str, value: object) -> None:
        """Accept a value, as nobody reads it here."""


def submit(image: str, destination: str | None, store: Store) -> dict[str, Any]:
    """Run our first part and return the event that the trigger would send."""
    from airflow.sdk.exceptions import TaskDeferred

    from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

    operator = BriaEraseForegroundOperator(task_id="erase", image=image, destination=destination)
    context: Any = {"ti": TaskInstance(), "task_state_store": store}
    try:
        operator.execute(context)
    except TaskDeferred as deferral:
        _, arguments = deferral.trigger.serialize()
    url = f"{segmind_url()}/files/result.png"
    return {"request_id": arguments["request_id"], "status": "COMPLETED", "output_urls": [url], "output_url": url}


def collect(image: str, destination: str, store: Store, event: dict[str, Any]) -> None:
    """Run our second part."""
    from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

    operator = BriaEraseForegroundOperator(task_id="erase", image=image, destination=destination)
    context: Any = {"ti": TaskInstance(), "task_state_store": store}
    operator.execute_complete(context, event)


def run_ours(image: str, destination: str) -> None:
    """Run both parts in this process."""
    store = Store()
    collect(image, destination, store, submit(image, destination, store))


def script_submit(s3: S3Hook, http: httpx.Client, image: str, destination: str) -> str:
    """Check and submit one image as a short script would, with the requests of our first part; return its target."""
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    client, url = s3.get_conn(), image
    bucket, _, target = destination.removeprefix("s3://").partition("/")
    if image.startswith("s3://"):
        photos, _, key = image.removeprefix("s3://").partition("/")
        client.get_object(Bucket=photos, Key=key, Range="bytes=0-262143")["Body"].read()
        url = client.generate_presigned_url("get_object", Params={"Bucket": photos, "Key": key}, ExpiresIn=4200)
    client.head_bucket(Bucket=bucket)
    if target.endswith("/"):
        target += image.rpartition("/")[2].rpartition(".")[0]
        for extension in (".png", ".jpg", ".webp"):
            with suppress(ClientError):
                client.head_object(Bucket=bucket, Key=f"{target}{extension}")
    headers = {"x-api-key": KEY}
    http.post(f"{segmind_url()}/v2/bria-erase-foreground", json={"image": url}, headers=headers).raise_for_status()
    return f"s3://{bucket}/{target}"


def script_collect(s3: S3Hook, http: httpx.Client, target: str) -> None:
    """Store the result of one image as a short script would, with the requests of our second part."""
    from botocore.exceptions import ClientError

    bucket, _, key = target.removeprefix("s3://").partition("/")
    with tempfile.TemporaryFile() as file:
        with http.stream("GET", f"{segmind_url()}/files/result.png") as response:
            for piece in response.iter_bytes():
                file.write(piece)
        file.seek(0)
        if not key.endswith(".png"):
            key += ".png"
            with suppress(ClientError):
                s3.get_conn().head_object(Bucket=bucket, Key=key)
        s3.load_file_obj(cast(Any, file), key, bucket, replace=True)


def run_script(part: str, *arguments: str) -> str:
    """Run a part of the script, or both (``"script"``) with one client each for S3 and HTTP."""
    import httpx
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    with httpx.Client(timeout=30) as http:
        s3 = S3Hook()
        target = arguments[0] if part == "script collect" else script_submit(s3, http, *arguments)
        if part != "script submit":
            script_collect(s3, http, target)
    return target


def segmind_url() -> str:
    """Return the address of the Segmind of the connection."""
    url: str = json.loads(os.environ["AIRFLOW_CONN_SEGMIND_DEFAULT"])["host"]
    return url


def cpu_of(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the milliseconds of CPU that a call took in all threads, and what it returned."""
    began = time.process_time()
    returned = run(*arguments)
    return (time.process_time() - began) * 1000, returned


def _places(case: str, addresses: Addresses) -> tuple[str, Iterator[str]]:
    """Return a case's source, and a destination of its own for each image: a prefix remembers what it holds."""
    image, destination = (text.format(segmind=addresses.segmind) for text in CASES[case])
    return image, (destination.replace("/erased/", f"/{next(_numbers)}/") for _ in repeat(None))


def measure_warm(case: str, addresses: Addresses, rounds: int) -> Row:
    """Measure in this process, one image of ours and one of the script in turn."""
    image, destinations = _places(case, addresses)
    runs: dict[str, Callable[..., Any]] = {"ours": run_ours, "script": partial(run_script, "script")}
    times: dict[str, list[float]] = {name: [] for name in runs}
    counted: dict[str, dict[str, int]] = {}
    for number in range(WARM_UPS + rounds):
        for name, run in runs.items():
            addresses.requests()
            took, _ = cpu_of(run, image, next(destinations))
            counted[name] = addresses.requests()
            if number >= WARM_UPS:
                times[name].append(took)
    return Row(case, True, tuple(times["ours"]), tuple(times["script"]), (), _equal(counted))


def measure_cold(case: str, addresses: Addresses, rounds: int) -> Row:
    """Measure in fresh processes, in turn."""
    image, destinations = _places(case, addresses)
    times: dict[str, list[float]] = {"ours": [], "script": [], "halves": []}
    counted: dict[str, dict[str, int]] = {}
    for number in range(rounds + 1):  # the first may have to compile
        for name in times:
            addresses.requests()
            to = next(destinations)
            if name == "script":
                took, _ = _fresh("script", image, to)
            else:
                prefix = "" if name == "ours" else "script "
                first, kept = _fresh(f"{prefix}submit", image, to)
                second, _ = _fresh(f"{prefix}collect", image, to, kept)
                took = first + second
            counted[name] = addresses.requests()
            if number:
                times[name].append(took)
    ours, script, halves = map(tuple, times.values())
    return Row(case, False, ours, script, halves, _equal(counted))


def _fresh(part: str, image: str, destination: str | None, kept: object = None) -> tuple[float, Any]:
    """Run one part in a fresh process; ``kept`` is what the first part leaves for the second."""
    code = f"{PREPARE}\nfrom benchmarks.worker_parts import run_part\nrun_part()"
    given = json.dumps([part, image, destination, kept])
    ran = subprocess.run([sys.executable, "-c", code], check=True, input=given, capture_output=True, text=True)
    took, left = json.loads(ran.stdout.splitlines()[-1])
    return took, left


def run_part() -> None:
    """Run the part that the standard input names and print its CPU time and what it leaves, as JSON."""
    part, image, destination, kept = json.load(sys.stdin)
    store = Store(kept[1] if part == "collect" else None)
    if part == "submit":
        took, event = cpu_of(submit, image, destination, store)
        left: Any = [event, store.values]
    elif part == "collect":
        took, left = cpu_of(collect, image, destination, store, kept[0])
    else:
        took, left = cpu_of(run_script, part, *([kept] if part == "script collect" else [image, destination]))
    print(json.dumps([took, left]))


def _equal(counted: dict[str, dict[str, int]]) -> int:
    """Return the number of requests of one image; all have made the same ones, or the figures compare nothing."""
    if any(each != counted["ours"] for each in counted.values()):
        raise AssertionError(f"The requests differ: {counted}")
    return sum(counted["ours"].values())


@contextmanager
def airflow_with(segmind: str | None) -> Iterator[Addresses]:
    """Start the servers and let Airflow's connections lead to them; see :func:`measure`."""
    with tempfile.TemporaryDirectory() as home, services() as started:
        addresses = Addresses(started.s3, segmind or started.segmind)
        os.environ |= addresses.environment() | {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        yield addresses


def measure(
    cases: Iterable[str] = tuple(CASES), *, warm_rounds: int = 15, cold_rounds: int = 7, segmind: str | None = None
) -> list[Row]:
    """
    Measure all cases.

    :param segmind: the address of a Segmind that counts requests at ``/requests``; by default one is started
    """
    rows = []
    with airflow_with(segmind) as addresses:
        for case in cases:
            if warm_rounds:
                rows.append(measure_warm(case, addresses, warm_rounds))
            if cold_rounds:
                rows.append(measure_cold(case, addresses, cold_rounds))
    return rows


def measure_checks(*, warm_rounds: int = 15, cold_rounds: int = 7, segmind: str | None = None) -> list[CheckRow]:
    """Measure our first part with and without a destination to check, in turn; see :func:`measure`."""
    warm: dict[str, list[float]] = {name: [] for name in CHECKED}
    cold: dict[str, list[float]] = {name: [] for name in CHECKED}
    with airflow_with(segmind) as addresses:
        image = f"{addresses.segmind}/files/photo.png"
        for number in range(WARM_UPS + warm_rounds):
            for name, to in CHECKED.items():
                took, _ = cpu_of(submit, image, to, Store())
                warm[name] += [took] if number >= WARM_UPS else []
        for number in range(cold_rounds + 1):
            for name, to in CHECKED.items():
                took, _ = _fresh("submit", image, to)
                cold[name] += [took] if number else []
    return [CheckRow(name, tuple(warm[name]), tuple(cold[name])) for name in CHECKED]


def _show(times: tuple[float, ...]) -> str:
    return f"{statistics.median(times):.0f} ({min(times):.0f} to {max(times):.0f})" if times else ""


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a table: medians, and the lowest and highest in parentheses."""
    lines = [
        "| image | process | ours, ms CPU | script, ms CPU | script in two processes | ours / script | requests |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = f"{statistics.median(row.ours) / statistics.median(row.script):.2f}"
        figures = (_show(row.ours), _show(row.script), _show(row.halves), ratio, str(row.requests))
        lines.append(f"| {' | '.join((row.case, 'warm' if row.warm else 'cold', *figures))} |")
    return "\n".join(lines)


def checks_as_markdown(rows: Sequence[CheckRow]) -> str:
    """Return the rows as a table: medians, and the lowest and highest in parentheses."""
    lines = ["| destination of an https image | first part warm, ms CPU | cold |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.destination} | {_show(row.warm)} | {_show(row.cold)} |" for row in rows)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the CPU time of the worker parts of one image.")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--warm-rounds", type=int, default=15)
    parser.add_argument("--cold-rounds", type=int, default=7)
    parser.add_argument("--checks", action="store_true", help="measure only what the check before paying costs")
    options = parser.parse_args()
    rounds = {"warm_rounds": options.warm_rounds, "cold_rounds": options.cold_rounds}
    logging.disable(logging.WARNING)
    print(
        checks_as_markdown(measure_checks(**rounds))
        if options.checks
        else as_markdown(measure(options.cases, **rounds))
    )


if __name__ == "__main__":
    main()
