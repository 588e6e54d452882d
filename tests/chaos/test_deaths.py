"""A task process dies at a planned point, and only once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from chaos.environment import REPOSITORY
from chaos.plan import PLAN_VARIABLE, ImagePlan, Plan

REACH_A_POINT = """
import sys
from chaos.dying_task import DyingTask, ImageDeaths

task = DyingTask()
task.begin(ImageDeaths(sys.argv[1]), sys.argv[1], 1)
task.die_at("mid_upload")
print("still alive")
"""


@pytest.fixture
def reach_a_point(tmp_path):
    """Run a process that reaches ``mid_upload`` with an image; return how it ended."""
    images = (ImagePlan("photo-0000", "defer_url", 0, ("mid_upload",)), ImagePlan("photo-0001", "defer_url", 1, ()))
    Plan(1, images, ()).write(tmp_path / "plan.json")
    (tmp_path / "deaths").mkdir()
    environment = os.environ | {PLAN_VARIABLE: str(tmp_path / "plan.json"), "PYTHONPATH": str(REPOSITORY)}

    def run(stem):
        command = [sys.executable, "-c", REACH_A_POINT, stem]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run


def test_a_process_kills_itself_at_a_planned_point_and_records_it(reach_a_point, tmp_path):
    assert reach_a_point("photo-0000").returncode == -signal.SIGKILL
    record = json.loads((tmp_path / "deaths" / "photo-0000.mid_upload.json").read_text())
    assert (record["stem"], record["point"], record["try"]) == ("photo-0000", "mid_upload", 1)


def test_the_next_try_passes_a_point_at_which_an_earlier_one_died(reach_a_point):
    reach_a_point("photo-0000")
    assert reach_a_point("photo-0000").stdout == "still alive\n"


def test_a_process_passes_a_point_that_is_not_planned_for_its_image(reach_a_point, tmp_path):
    assert reach_a_point("photo-0001").stdout == "still alive\n"
    assert list((tmp_path / "deaths").iterdir()) == []
