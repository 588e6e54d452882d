"""The report of a cluster run says whether it passed, and what to see to when it did not."""

from __future__ import annotations

import json

import pytest

from cluster.costs import S3_REQUEST, Costs, Snapshot
from cluster.evidence import Evidence
from cluster.killer import Kill
from cluster.limit import LimitUse
from cluster.report import MAX_FAULTS, build_report, format_report

EVIDENCE = Evidence(
    run_states={"erase_mapped": "success"},
    tasks=[],
    jobs=[{}] * 3,
    stored={},
    limit=LimitUse({"submit": 3}, 3, 0),
    started_triggers={("erase_mapped", "triggerer-1"): 2, ("erase_mapped", "triggerer-2"): 1},
    worker_parts={"worker-1": 4, "worker-2": 2},
    kills=[Kill("worker", "worker-1", {"erase_mapped": 2})],
)


@pytest.fixture
def costs():
    """What 10 images have cost in 30 s."""
    before = Snapshot(100.0, 5, 8.0, {"xcom": 10, "job": 4}, 1000, {"worker": 1.0}, {"GET": 1})
    after = Snapshot(130.0, 25, 28.0, {"xcom": 30, "job": 4}, 91000, {"worker": 6.0}, {"GET": 21, "PUT": 10})
    return Costs(10, before, after, LimitUse({"submit": 10, "status": 21}, 31, 0))


def test_costs_are_told_as_so_much_an_image(costs):
    value = costs.as_json()
    assert value == {
        "images": 10,
        "seconds": 30.0,
        "images_a_minute": 20.0,
        "busiest_minute": 31,
        "refused": 0,
        "requests_an_image": {"all": 3.1, "status": 2.1, "submit": 1.0},
        "worker_parts": 20,
        "worker_seconds_an_image": 2.0,
        "s3_requests_an_image": {"GET": 2.0, "PUT": 1.0},
        "rows_an_image": {"xcom": 2.0},
        "database_bytes_an_image": 9000,
        "cpu_seconds_an_image": {"worker": 0.5},
    }


def test_the_report_of_a_run_that_passed_says_who_did_what(costs):
    text = format_report(build_report(EVIDENCE, [], {"erase_mapped": costs}, 61.4))
    for line in (
        "Triggers of erase_mapped: triggerer-1 2, triggerer-2 1",
        "Parts of tasks on the workers: worker-1 4, worker-2 2",
        "Killed: worker-1, which worked for erase_mapped 2",
        "  requests an image: all 3.1, status 2.1, submit 1; busiest minute 31",
        "PASSED",
    ):
        assert line in text


def test_the_report_of_a_run_that_failed_lists_what_is_wrong_and_says_how_much_more_there_is():
    report = build_report(EVIDENCE, [f"fault {number}" for number in range(MAX_FAULTS + 3)], {}, 61.4)
    text = format_report(report)
    assert "PASSED" not in text
    assert f"fault {MAX_FAULTS - 1}\nand 3 more" in text


def test_the_report_is_plain_json(costs):
    report = build_report(EVIDENCE, [], {"erase_mapped": costs}, 61.4)
    assert json.loads(json.dumps(report)) == report


def test_a_request_to_s3_is_recognised_with_and_without_colour_in_the_log():
    log = '"PUT /a HTTP/1.1" 200 -\n"\x1b[33mHEAD /b HTTP/1.1\x1b[0m" 404 -\n"\x1b[35m\x1b[1mGET /c HTTP/1.1"'
    assert S3_REQUEST.findall(log) == ["PUT", "HEAD", "GET"]
