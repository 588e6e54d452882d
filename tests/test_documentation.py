"""Every snippet of the README and of the docs is run; every file that they name is there."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from tests.operators.task import Task
from tests.photos import photo, subject_pixels

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


DAGS = [code for code in snippets("README.md", "python") if "DAG(" in code]


@pytest.fixture
def photos(s3):
    """The bucket of the README, with its photo."""
    s3.client.create_bucket(Bucket="photos")
    s3.client.put_object(Bucket="photos", Key="cup.jpg", Body=photo(kind="JPEG"))
    yield s3.client
    for found in s3.client.list_objects_v2(Bucket="photos").get("Contents", []):
        s3.client.delete_object(Bucket="photos", Key=found["Key"])
    s3.client.delete_bucket(Bucket="photos")


def run(code: str) -> dict:
    names: dict = {}
    exec(
        compile(
            code.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import"), "README", "exec"
        ),
        names,
    )
    return names


@pytest.mark.parametrize("code", [code for code in DAGS if ".expand(" not in code])
def test_a_dag_of_the_readme_erases_the_photo(segmind, quick_jobs, photos, code):
    from airflow.providers.common.compat.sdk import DAG

    (dag,) = [value for value in _dags_of(code) if isinstance(value, DAG)]
    (operator,) = dag.tasks
    facts = Task(lambda: operator).run()

    bucket, _, key = facts["uri"].removeprefix("s3://").partition("/")
    assert subject_pixels(photos.get_object(Bucket=bucket, Key=key)["Body"].read()) == 0


def test_the_mapped_dag_of_the_readme_maps(segmind):
    (code,) = [code for code in DAGS if ".expand(" in code]
    (dag,) = _dags_of(code)

    assert dag.get_task("erase").is_mapped


def _dags_of(code: str) -> list:
    return [run(code.replace("with DAG(", "with DAG(").replace("):\n", ") as dag:\n", 1))["dag"]]


def test_the_hooks_snippet_runs(segmind, quick_jobs, tmp_path, monkeypatch, capsys):
    (code,) = [code for code in snippets("README.md", "python") if "hook = SegmindHook" in code]
    monkeypatch.chdir(tmp_path)
    names = run(code.replace("https://example.com/cup.jpg", base64.b64encode(photo()).decode()))
    names["hook"].close()

    assert subject_pixels((tmp_path / "cup-erased.png").read_bytes()) == 0
    assert segmind.jobs[0].request_id in capsys.readouterr().out


def test_the_readmes_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = {
        line.split()[1]
        for page in PAGES
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("make ")
    }

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
