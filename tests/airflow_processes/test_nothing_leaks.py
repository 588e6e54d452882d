"""Secrets and image data are searched for in every file and table of Airflow after all runs have ended."""

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
def finished_world(world: World, runs) -> World:
    for run in runs.values():
        run.wait()
    return world


def kept(world: World) -> Iterator[tuple[str, str]]:
    """Yield the name and the content of everything that Airflow has written."""
    # The output of Airflow's processes belongs to it; that of the S3 server and of the emulator does not.
    printed = [path for name in ("airflow", "command-*") for path in world.stack.logs.glob(f"{name}.log")]
    for path in [*sorted(world.airflow.home.rglob("*")), *printed]:
        if path.is_file():
            yield str(path.relative_to(world.stack.scratch)), path.read_bytes().decode("latin-1")
    # In the database file, a value that spans pages is not contiguous, so the rows are searched as well.
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


def test_the_search_finds_a_request_id(finished_world):
    request_id = finished_world.runs["one"].facts()["request_id"]
    found = holders(finished_world, request_id)
    assert "table xcom" in found
    assert any("attempt=1.log" in name for name in found)


@pytest.mark.parametrize(
    "secret",
    [KEY, KEY.removeprefix("SG_"), "SG_refused", "X-Amz-Signature", "X-Amz-Credential"],
    ids=["key", "key without its prefix", "refused key", "signature", "credential"],
)
def test_airflow_keeps_no_secret(finished_world, secret):
    assert holders(finished_world, secret) == []


def test_airflow_keeps_no_inline_image(finished_world):
    source = finished_world.runs["inline"].facts()["image"]
    assert source.startswith("s3://")
    bucket, key = split(source)
    content = finished_world.s3.read(f"s3://{bucket}/{key}")["Body"]
    whole = base64.b64encode(content).decode()
    assert holders(finished_world, whole[len(whole) // 2 :][:48]) == []


def test_the_key_was_sent_with_api_requests_only(finished_world):
    log = finished_world.emulator.requests()["log"]
    assert {entry["has_key"] for entry in log if entry["kind"] == "file"} == {False}
    assert {entry["has_key"] for entry in log if entry["kind"] in {"submit", "status", "result"}} == {True}
