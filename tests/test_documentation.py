"""
What README, the docs and the examples show works.

Every Python block is run: DAGs to their end, the example tests of ``docs/emulator.md`` by ``tests/emulator``. Of the
shell blocks, each connection is read as Airflow reads it, and each ``curl`` is sent. Not run are ``git clone`` and
``pip install``, which need the network, ``python -m``, which serves until it is stopped, and ``make``, whose targets
must exist. What is behind these has tests of its own. The example DAGs run in ``tests/airflow_processes``.
"""

from __future__ import annotations

import base64
import os
import re
import runpy
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.operators.task import Task
from tests.photos import photo, subject_pixels

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
REPOSITORY = "https://github.com/segmind/airflow-provider-segmind"
PUBLISHED = re.compile(
    rf"{REPOSITORY}/(?:blob|tree)/main/|{REPOSITORY.replace('github.com', 'raw.githubusercontent.com')}/main/"
)
"""How README addresses a file of this repository, so that its links also work on a package index."""


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


def as_parameters(chosen: list[Snippet]) -> list:
    assert chosen, "the pages have changed, and there is nothing left to run"
    return [pytest.param(snippet, id=f"{snippet.page}-{number}") for number, snippet in enumerate(chosen)]


PYTHON = [snippet for snippet in snippets() if snippet.language == "python"]
DAGS = [snippet for snippet in PYTHON if snippet.is_dag]
OPERATORS = [snippet for snippet in PYTHON if re.search(r"^class \w+Operator\(", snippet.code, re.MULTILINE)]
FAULTS = [snippet for snippet in PYTHON if "@fault(" in snippet.code]
SCRIPTS = [
    snippet
    for snippet in PYTHON
    if not (snippet.is_dag or snippet.is_test or snippet in OPERATORS or snippet in FAULTS)
]
COMMANDS = [
    shlex.split(command, comments=True)
    for snippet in snippets()
    if snippet.language == "bash"
    for command in re.split(r"\n|&&", snippet.code.replace("\\\n", " "))
    if command.strip()
]


NOT_RUN = (["git", "clone"], ["pip", "install"], ["python", "-m"], [".venv/bin/python", "-m"])


def test_every_code_block_is_of_a_kind_that_a_test_covers():
    assert {snippet.language for snippet in snippets()} <= {"python", "bash", "mermaid", "text", "json"}
    assert {snippet.page for snippet in PYTHON if snippet.is_test} == {"emulator.md"}
    for command in COMMANDS:
        assert command[0] in {"cd", "export", "curl", "make"} or command[:2] in NOT_RUN


INCOMING = {
    "incoming/a/front.jpg": "erased/a/",
    "incoming/b/front.JPG": "erased/b/",
    "incoming/cat.jpeg": "erased/",
}
"""Photos as README's nightly DAG finds them, and where their results belong: two of them have the same name."""


@pytest.fixture
def bucket(s3):
    """Create the bucket that README uses, with photos."""
    s3.client.create_bucket(Bucket="photos")
    for shade, key in enumerate(("cup.jpg", *INCOMING, "incoming/notes.txt")):
        s3.client.put_object(Bucket="photos", Key=key, Body=photo(shade=shade, kind="JPEG"))
    yield s3.client
    for found in s3.client.list_objects_v2(Bucket="photos").get("Contents", []):
        s3.client.delete_object(Bucket="photos", Key=found["Key"])
    s3.client.delete_bucket(Bucket="photos")


def dag_of(snippet: Snippet):
    """Run a code block that defines a DAG, and return the DAG."""
    from airflow.providers.common.compat.sdk import DAG

    names: dict = {}
    code = snippet.code.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
    code, count = re.subn(r"^(with DAG\(.*\)):$", r"\1 as the_dag:", code, flags=re.MULTILINE)
    assert count == 1
    exec(compile(code, snippet.page, "exec"), names)
    assert isinstance(names["the_dag"], DAG)
    return names["the_dag"]


def is_erased(client, uri: str) -> bool:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return subject_pixels(client.get_object(Bucket=bucket, Key=key)["Body"].read()) == 0


BATCHES = [snippet for snippet in DAGS if "BatchOperator" in snippet.code]


def run_batches(snippet: Snippet, run_id: str = "first-night") -> list[dict]:
    """Run the batch of a code block, or each of its mapped batches, and return what they return."""
    tasks = dag_of(snippet).tasks
    finders = [task for task in tasks if hasattr(task, "python_callable")]
    (operator,) = (task for task in tasks if task not in finders)
    chosen = finders[0].python_callable() if finders else [None]
    batches = [Task(lambda found=found: operator.unmap(found) if found else operator) for found in chosen]
    for batch in batches:
        batch.ti.run_id = run_id
    return [batch.run() for batch in batches]


def stored(client) -> list[str]:
    found = client.list_objects_v2(Bucket="photos", Prefix="erased/")["Contents"]
    return [each["Key"] for each in found if "_segmind/" not in each["Key"]]


@pytest.mark.parametrize("snippet", as_parameters([snippet for snippet in DAGS if snippet not in BATCHES]))
def test_a_dag_erases_the_photo(segmind, quick_jobs, bucket, snippet):
    (operator,) = dag_of(snippet).tasks

    assert is_erased(bucket, Task(lambda: operator).run()["uri"])


@pytest.mark.parametrize("snippet", as_parameters(BATCHES))
def test_a_dag_of_batches_stores_each_photo_in_its_folder(segmind, quick_jobs, bucket, snippet):
    run_batches(snippet)

    folders = set(INCOMING.values()) - ({"erased/"} if ".expand" in snippet.code else set())
    assert sorted(key.rpartition("/")[0] + "/" for key in stored(bucket)) == sorted(folders)
    assert all(is_erased(bucket, f"s3://photos/{key}") for key in stored(bucket))


@pytest.mark.parametrize("snippet", as_parameters(BATCHES))
def test_a_second_night_pays_only_for_a_photo_that_was_replaced(segmind, quick_jobs, bucket, snippet):
    run_batches(snippet)
    paid_before = len(segmind.jobs)
    bucket.put_object(Bucket="photos", Key="incoming/a/front.jpg", Body=photo(shade=50, kind="JPEG"))
    second_night = run_batches(snippet, "second-night")

    assert sum(summary["completed"] for summary in second_night) == 1
    assert len(segmind.jobs) == paid_before + 1


@pytest.mark.parametrize("source", ["s3://photos/incoming", "s3://photos/incoming/"])
@pytest.mark.parametrize("destination", ["s3://photos/erased", "s3://photos/erased/"])
def test_the_prefix_example_keeps_folders_and_accepts_them_with_and_without_a_final_slash(bucket, source, destination):
    for key in ("incoming/", "incoming/a/", "incoming-old/cup.jpg"):
        bucket.put_object(Bucket="photos", Key=key, Body=b"")
    list_photos = runpy.run_path(str(ROOT / "example_dags" / "segmind_erase_prefix.py"))["list_photos"].function

    assert list_photos(source, destination) == [
        {"image": f"s3://photos/{key}", "destination": f"s3://photos/{folder}"} for key, folder in INCOMING.items()
    ]


@pytest.mark.parametrize("snippet", as_parameters(SCRIPTS))
def test_a_script_runs(segmind, quick_jobs, tmp_path, monkeypatch, capsys, snippet):
    monkeypatch.chdir(tmp_path)
    names: dict = {"segmind_emulator": segmind}
    inline = base64.b64encode(photo()).decode()  # there is nothing at the address in the docs
    exec(compile(snippet.code.replace("https://example.com/cup.jpg", inline), snippet.page, "exec"), names)

    if "hook" in names:
        names["hook"].close()
        assert [subject_pixels(path.read_bytes()) for path in tmp_path.iterdir()] == [0]
        assert segmind.jobs[0].request_id in capsys.readouterr().out
    else:
        assert segmind.faults.all()


@pytest.mark.parametrize("snippet", as_parameters(OPERATORS))
def test_an_operator_for_a_model_stores_its_picture(segmind, quick_jobs, tmp_path, snippet):
    names: dict = {}
    exec(compile(snippet.code, snippet.page, "exec"), names)
    (kind,) = (
        value for name, value in names.items() if name in re.findall(r"^class (\w+)", snippet.code, re.MULTILINE)
    )
    options = {"task_id": "run", "prompt": "a cup", "destination": str(tmp_path / "cup.png"), "poll_interval": 0.1}
    facts = Task(lambda: kind(**options)).run()

    assert facts["model"] == segmind.jobs[0].model
    assert facts["size"] == (tmp_path / "cup.png").stat().st_size


@pytest.mark.parametrize("snippet", as_parameters(FAULTS))
def test_a_fault_strikes_the_requests_that_it_names(segmind, monkeypatch, snippet):
    from airflow_provider_segmind.emulator.fault_effects import EFFECTS

    name = re.search(r"^async def (\w+)", snippet.code, re.MULTILINE)[1]
    monkeypatch.setitem(EFFECTS, name, None)  # takes the fault away again after this test
    exec(compile(snippet.code, snippet.page, "exec"), {})
    segmind.faults.add(name)
    request = urllib.request.Request(f"{segmind.url}/v1/get-user-credits", headers={"x-api-key": segmind.key})
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request):
        pass

    refused.value.close()
    assert refused.value.code == 503
    assert segmind.faults.all()[0].struck == 1


URIS = re.findall(r"`(segmind://[^`]+)`", (ROOT / "README.md").read_text())


def settings_of(monkeypatch, connection: str):
    from airflow_provider_segmind.hooks.segmind import SegmindHook

    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", connection)
    return SegmindHook().settings


def test_the_connection_as_json_and_as_uri_is_the_same(monkeypatch):
    ((_, as_json),) = connections("README.md")
    (as_uri,) = (uri for uri in URIS if "?" not in uri)
    assert settings_of(monkeypatch, as_uri) == settings_of(monkeypatch, as_json)


def test_the_connection_uri_takes_extra_fields_from_its_query(monkeypatch):
    (uri,) = (uri for uri in URIS if "?" in uri)
    (name, (value,)) = parse_qs(urlsplit(uri).query).popitem()
    assert getattr(settings_of(monkeypatch, uri), name) == float(value)


@pytest.mark.segmind_emulator(key=None)
def test_the_connection_in_the_emulators_page_reaches_the_emulator(segmind_emulator, monkeypatch):
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
def test_the_curl_commands_switch_a_fault_on(segmind, command):
    command = [part.replace("http://127.0.0.1:8765", segmind.url) for part in command]
    subprocess.run([*command, "--fail", "--silent"], check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    assert [fault.name for fault in segmind.faults.all()] == ["error"]


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    prose = [re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE) for page in PAGES]
    commands = [shlex.join(command) for command in COMMANDS if command[0] == "make"]
    commands += [code for text in prose for code in re.findall(r"`(?:[A-Z_]+=\S+\s)*(make [^`]+)`", text)]
    named = {re.match(r"make (?:-C \S+ )?([a-z-]+)", command)[1] for command in commands}

    assert {"demo", "test", "chaos"} <= named
    assert {name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_this_repository_lead_to_existing_files_and_headings(page):
    for target, anchor in local_links(page):
        other = (page.parent / target) if target else page
        assert other.exists(), target
        assert not anchor or anchor in anchors_of(other), f"{target}#{anchor}"


def local_links(page: Path) -> list[tuple[str, str]]:
    """Return the path and the anchor of each link that leads to a file of this repository."""
    links = [PUBLISHED.sub("", link) for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    return [tuple(f"{link}#".split("#")[:2]) for link in links if not link.startswith(("https://", "http://"))]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = [line for line in page.read_text().splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-") for heading in headings}


def test_readme_has_no_link_that_is_dead_on_a_package_index():
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text())

    assert any(PUBLISHED.match(link) for link in links)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
