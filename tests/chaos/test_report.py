"""The report of the chaos run says whether it passed, and what to look at when it did not."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from chaos.draw import Sizes, draw_plan
from chaos.report import MAX_HISTORIES, build_report, format_report
from chaos.verdict import Verdict


@pytest.fixture
def report():
    """Return a function that builds the report of a verdict."""

    def build(verdict):
        return build_report(
            draw_plan(6, Sizes(images=20, deaths=8, outside=4)),
            verdict,
            command="make chaos SEED=6",
            deaths=Counter(mid_upload=7),
            kills=Counter(task=3, postgres=1),
            ended_by_themselves={"scheduler": 1},
            histories={stem: [f"history of {stem}"] for stem in verdict.image_faults},
            requests={"submit": 20},
            seconds=61.26,
            seconds_with_start=80.0,
        )

    return build


def test_the_report_of_a_run_that_passed_counts_what_happened(report):
    text = format_report(report(Verdict(posts=21, failed_jobs=1, tries=40, most_tries=3)))
    for line in (
        "Seed 6: 20 images in 61 s (80 s including the start of all processes)",
        "Kills: 11",
        "  task processes at named points: mid_upload 7",
        "  from outside: task 3, postgres 1",
        "Components that ended by themselves: scheduler 1",
        "Tries of tasks: 40, at most 3 of one task",
        "Accepted POSTs: 21, of which 1 failed at Segmind and were not billed",
    ):
        assert line in text.splitlines()
    assert "PASSED" in text
    assert "FAILED" not in text


def test_the_report_of_a_run_that_failed_names_the_faults_and_how_to_run_it_again(report):
    faults = {f"photo-{number:04}": ["its result is not stored"] for number in range(MAX_HISTORIES + 1)}
    text = format_report(report(Verdict(image_faults=faults, faults=["the DAG run is failed"])))
    assert "PASSED" not in text
    assert "FAILED:\nthe DAG run is failed\n" in text
    assert text.count("its result is not stored") == len(faults)
    assert text.count("    history of photo-") == MAX_HISTORIES
    assert text.endswith("Run the same plan again: make chaos SEED=6")


def test_the_report_is_json_and_has_the_history_of_every_faulty_image(report):
    faults = {f"photo-{number:04}": ["its result is not stored"] for number in range(MAX_HISTORIES + 1)}
    value = json.loads(json.dumps(report(Verdict(image_faults=faults))))
    assert value["passed"] is False
    assert [image["history"] for image in value["image_faults"].values()] == [[f"history of {stem}"] for stem in faults]
