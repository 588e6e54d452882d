"""What must be in no file that Airflow keeps: searched for in all of them when everything has run."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from demo.emulator import KEY
from demo.s3_server import split

from .conftest import World


@pytest.fixture(scope="module")
def everything_has_run(world: World, runs) -> World:
    for run in runs.values():
        run.wait()
    return world


def kept(world: World) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of everything that Airflow has written."""
    # Of what the processes print, that of Airflow's: the logs of the S3 server and the emulator are not its own.
    printed = [path for name in ("airflow", "command-*") for path in world.stack.logs.glob(f"{name}.log")]
    for path in [*sorted(world.airflow.home.rglob("*")), *printed]:
        if path.is_file():
            yield str(path.relative_to(world.stack.scratch)), path.read_bytes().decode("latin-1")
    # Values that span pages are torn in the file: the rows as such, too.
    with closing(sqlite3.connect(f"file:{world.airflow.home / 'airflow.db'}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield (
                    f"table {table}",
                    " ".join(value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row),
                )


def holders(world: World, secret: str) -> list[str]:
    return sorted({name for name, text in kept(world) if secret in text})


def test_the_search_finds_what_is_there(everything_has_run):
    request_id = everything_has_run.runs["one"].facts()["request_id"]
    found = holders(everything_has_run, request_id)
    assert "table xcom" in found
    assert any("attempt=1.log" in name for name in found)


@pytest.mark.parametrize(
    "secret",
    [KEY, KEY.removeprefix("SG_"), "SG_refused", "X-Amz-Signature", "X-Amz-Credential"],
    ids=["key", "key without its prefix", "refused key", "signature", "credential"],
)
def test_no_secret_is_in_what_airflow_keeps(everything_has_run, secret):
    assert holders(everything_has_run, secret) == []


def test_no_inline_image_is_in_what_airflow_keeps(everything_has_run):
    source = everything_has_run.runs["inline"].facts()["image"]
    assert source.startswith("s3://")
    bucket, key = split(source)
    content = everything_has_run.s3.read(f"s3://{bucket}/{key}")["Body"]
    whole = base64.b64encode(content).decode()
    assert holders(everything_has_run, whole[len(whole) // 2 :][:48]) == []


def test_the_key_was_sent_to_the_api_only(everything_has_run):
    log = everything_has_run.emulator.requests()["log"]
    assert {entry["has_key"] for entry in log if entry["kind"] == "file"} == {False}
    assert {entry["has_key"] for entry in log if entry["kind"] in {"submit", "status", "result"}} == {True}
