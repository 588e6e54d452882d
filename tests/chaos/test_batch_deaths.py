"""The task process of a batch dies at the planned pass of a point, once the death is due, and once for each death."""

from __future__ import annotations

import pytest

from chaos.batch_deaths import name_write
from chaos.dying_task import DEATHS, BatchDeaths, due_file
from chaos.plan import PLAN_VARIABLE, BatchDeath, BatchPlan, Plan

BATCH = BatchPlan("erase_batch", 10, (BatchDeath("after_manifest", 1), BatchDeath("mid_upload", 3)), ())


@pytest.fixture
def set_due(tmp_path, monkeypatch):
    """Return a function that says how many deaths are due."""
    Plan(1, (), (), batches=(BATCH,)).write(tmp_path / "plan.json")
    (tmp_path / DEATHS).mkdir()
    monkeypatch.setenv(PLAN_VARIABLE, str(tmp_path / "plan.json"))
    return lambda number: due_file(tmp_path / "plan.json", BATCH.dag_id).write_text(str(number))


def test_a_process_dies_at_the_planned_pass_of_a_point(set_due):
    set_due(2)
    deaths = BatchDeaths(BATCH)
    assert [deaths.reach("mid_upload") is not None for _ in range(4)] == [False, False, True, True]


def test_a_death_that_is_not_due_does_not_happen(set_due):
    set_due(1)
    deaths = BatchDeaths(BATCH)
    assert deaths.find("mid_upload") is None
    assert [deaths.reach("mid_upload") for _ in range(3)] == [None] * 3


def test_a_death_that_has_happened_does_not_happen_again(set_due):
    set_due(2)
    BatchDeaths(BATCH).reach("after_manifest").touch()
    assert BatchDeaths(BATCH).reach("after_manifest") is None


@pytest.mark.parametrize(
    ("name", "data", "write"),
    [
        ("state.json", b"", "batch_state"),
        ("journal/000003-000001.jsonl", b"", "journal_shard"),
        ("journal.jsonl", b"", "journal_compact"),
        ("failed.jsonl", b"", "failed_list"),
        ("manifest.jsonl", b"", "manifest"),
        ("inputs.jsonl", b"", "batch_inputs"),
        ("existing.json", b"", "batch_existing"),
        ("0a-1b.json", b'{"state": "submitted"}', "ledger_submitted"),
    ],
)
def test_each_write_of_a_batch_has_its_own_points(name, data, write):
    assert name_write(name, data) == write
