"""A task process is killed on an Airflow that keeps nothing of a task between its tries."""

from __future__ import annotations

import pytest

from tests.photos import subject_pixels

from .conftest import KILLS

each_kill = pytest.mark.parametrize("kill", KILLS)


@each_kill
def test_with_a_ledger_a_killed_task_pays_once_and_stores_its_result(outcomes, kill):
    outcome = outcomes[f"{kill}-with-ledger"]
    assert (outcome.state, outcome.posts) == ("success", 1)
    assert outcome.tries > 1
    assert subject_pixels(outcome.result) == 0


@each_kill
def test_without_a_ledger_a_killed_task_pays_twice(outcomes, kill):
    outcome = outcomes[f"{kill}-without-ledger"]
    assert (outcome.state, outcome.posts) == ("success", 2)
