"""
What the README, the docs and the examples show is run, and what they name is there.

Every Python block is run: DAGs to their end, the example tests of ``docs/emulator.md`` by ``tests/emulator``. Of the
shell's blocks every connection is read as Airflow reads it and every ``curl`` is sent. Not run are ``pip install``
(nothing is published yet), ``python -m``, which serves for ever, and ``make``, whose targets are looked up; what stands
behind both has tests of its own. The example DAGs run in ``tests/airflow_processes``.
"""

from __future__ import annotations

import base64
import os
import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.operators.task import Task
from tests.photos import photo, subject_pixels

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


class Snippet(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    code: str

    @property
    def is_dag(self) -> bool:
        return "DAG(" in self.code

    @property
    def is_test(self) -> bool:
        return "def test_" in self.code


def snippets() -> Iterator[Snippet]:
    for page in PAGES:
        for language, code in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            yield Snippet(page.name, language, code)


def marked(chosen: list[Snippet]) -> list:
    assert chosen, "the pages have changed, and nothing is left to run"
    return [pytest.param(snippet, id=f"{snippet.page}-{number}") for number, snippet in enumerate(chosen)]


PYTHON = [snippet for snippet in snippets() if snippet.language == "python"]
DAGS = [snippet for snippet in PYTHON if snippet.is_dag]
SCRIPTS = [snippet for snippet in PYTHON if not snippet.is_dag and not snippet.is_test]
COMMANDS = [
    shlex.split(line, comments=True)
    for snippet in snippets()
    if snippet.language == "bash"
    for line in snippet.code.replace("\\\n", " ").splitlines()
    if line.strip()
]


def test_every_snippet_has_somebody_who_runs_it():
    assert {snippet.language for snippet in snippets()} <= {"python", "bash"}
    assert {snippet.page for snippet in PYTHON if snippet.is_test} == {"emulator.md"}
    for command in COMMANDS:
        assert command[0] in {"export", "curl", "make"} or command[:2] in (["pip", "install"], ["python", "-m"])


@pytest.fixture
def bucket(s3):
    """The bucket of the README, with its photos."""
    s3.client.create_bucket(Bucket="photos")
    for key in ("cup.jpg", "incoming/cup.jpg", "incoming/cat.jpg"):
        s3.client.put_object(Bucket="photos", Key=key, Body=photo(kind="JPEG"))
    yield s3.client
    for found in s3.client.list_objects_v2(Bucket="photos").get("Contents", []):
        s3.client.delete_object(Bucket="photos", Key=found["Key"])
    s3.client.delete_bucket(Bucket="photos")


def dag_of(snippet: Snippet):
    """Run a snippet that ends with a DAG; return the DAG."""
    from airflow.providers.common.compat.sdk import DAG

    names: dict = {}
    code = snippet.code.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
    code, count = re.subn(r"^(with DAG\(.*\)):$", r"\1 as the_dag:", code, flags=re.MULTILINE)
    assert count == 1
    exec(compile(code, snippet.page, "exec"), names)
    assert isinstance(names["the_dag"], DAG)
    return names["the_dag"]


def erased(client, facts: dict) -> bool:
    bucket, _, key = facts["uri"].removeprefix("s3://").partition("/")
    return subject_pixels(client.get_object(Bucket=bucket, Key=key)["Body"].read()) == 0


@pytest.mark.parametrize("snippet", marked([snippet for snippet in DAGS if ".expand" not in snippet.code]))
def test_a_dag_erases_the_photo(segmind, quick_jobs, bucket, snippet):
    (operator,) = dag_of(snippet).tasks
    assert erased(bucket, Task(lambda: operator).run())


@pytest.mark.parametrize("snippet", marked([snippet for snippet in DAGS if ".expand" in snippet.code]))
def test_a_mapped_dag_erases_each_photo_that_it_finds(segmind, quick_jobs, bucket, snippet):
    tasks = dag_of(snippet).tasks
    (mapped,) = (task for task in tasks if task.is_mapped)
    (finder,) = (task for task in tasks if not task.is_mapped)

    found = finder.python_callable()
    assert sorted(found) == ["s3://photos/incoming/cat.jpg", "s3://photos/incoming/cup.jpg"]
    for image in found:
        operator = mapped.unmap({"image": image})
        assert erased(bucket, Task(lambda operator=operator: operator).run())


@pytest.mark.parametrize("source", ["s3://photos/incoming", "s3://photos/incoming/"])
@pytest.mark.parametrize("destination", ["s3://photos/erased", "s3://photos/erased/"])
def test_the_example_of_a_prefix_takes_folders_with_and_without_their_last_slash(bucket, source, destination):
    for key in ("incoming/", "incoming/more/", "incoming/more/dog.webp", "incoming/notes.txt", "incoming-old/cup.jpg"):
        bucket.put_object(Bucket="photos", Key=key, Body=b"")
    list_photos = runpy.run_path(str(ROOT / "example_dags" / "segmind_erase_prefix.py"))["list_photos"].function

    assert {photo["image"]: photo["destination"] for photo in list_photos(source, destination)} == {
        "s3://photos/incoming/cat.jpg": "s3://photos/erased/",
        "s3://photos/incoming/cup.jpg": "s3://photos/erased/",
        "s3://photos/incoming/more/dog.webp": "s3://photos/erased/more/",
    }


@pytest.mark.parametrize("snippet", marked(SCRIPTS))
def test_a_script_runs(segmind, quick_jobs, tmp_path, monkeypatch, capsys, snippet):
    monkeypatch.chdir(tmp_path)
    names: dict = {"segmind_emulator": segmind}
    inline = base64.b64encode(photo()).decode()  # the address in the docs is nobody's
    exec(compile(snippet.code.replace("https://example.com/cup.jpg", inline), snippet.page, "exec"), names)

    if "hook" in names:
        names["hook"].close()
        assert [subject_pixels(path.read_bytes()) for path in tmp_path.iterdir()] == [0]
        assert segmind.jobs[0].request_id in capsys.readouterr().out
    else:
        assert segmind.faults.all()


URIS = re.findall(r"`(segmind://[^`]+)`", (ROOT / "README.md").read_text())


def settings_of(monkeypatch, connection: str):
    from airflow_provider_segmind.hooks.segmind import SegmindHook

    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", connection)
    return SegmindHook().settings


def test_the_connections_json_and_its_uri_say_the_same(monkeypatch):
    ((_, as_json),) = connections("README.md")
    (as_uri,) = (uri for uri in URIS if "?" not in uri)
    assert settings_of(monkeypatch, as_uri) == settings_of(monkeypatch, as_json)


def test_the_connections_uri_takes_its_extra_from_the_query(monkeypatch):
    (uri,) = (uri for uri in URIS if "?" in uri)
    (name, (value,)) = parse_qs(urlsplit(uri).query).popitem()
    assert str(getattr(settings_of(monkeypatch, uri), name)) == value


@pytest.mark.segmind_emulator(key=None)
def test_the_emulators_connection_reaches_it(segmind_emulator, monkeypatch):
    from airflow_provider_segmind.hooks.segmind import SegmindHook

    ((name, value),) = connections("emulator.md")
    monkeypatch.setenv(name, value.replace("http://127.0.0.1:8765", segmind_emulator.url))
    assert SegmindHook().get_credits() == 100.0


def connections(page: str) -> list[tuple[str, str]]:
    """Return the connections that a page exports, as a shell would."""
    exports = [
        line.removeprefix("export ")
        for snippet in snippets()
        if snippet.page == page and snippet.language == "bash"
        for line in snippet.code.splitlines()
        if line.startswith("export ")
    ]
    return [tuple(shlex.split(export)[0].split("=", 1)) for export in exports]


@pytest.mark.skipif(shutil.which("curl") is None, reason="this machine has no curl")
@pytest.mark.parametrize("command", [command for command in COMMANDS if command[0] == "curl"], ids=lambda _: "curl")
def test_a_curl_command_does_what_it_says(segmind, command):
    command = [part.replace("http://127.0.0.1:8765", segmind.url) for part in command]
    subprocess.run([*command, "--fail", "--silent"], check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    assert [fault.name for fault in segmind.faults.all()] == ["error"]


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = {command[1] for command in COMMANDS if command[0] == "make"}

    assert named
    assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?://)([^)#\s]*)(?:#[^)]*)?\)", text):
        assert not target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_anchors_are_headings(page):
    text = page.read_text()
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#([^)]*)\)", text):
        other = (page.parent / target).read_text() if target else text
        headings = {
            re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in other.splitlines()
            if line.startswith("#")
        }
        assert anchor in headings, anchor
