"""Faults that decide whether a job is accepted and how it ends."""

from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize(("name", "jobs"), [("cut_before_accept", 0), ("cut_after_accept", 1)])
def test_the_connection_is_closed_without_a_response_before_or_after_acceptance(client, emulator, name, jobs):
    emulator.faults.add(name)
    with pytest.raises(httpx.RemoteProtocolError):
        client.submit()
    assert len(emulator.jobs) == jobs
    assert emulator.requests.log[-1].faults == [name]
    assert emulator.requests.log[-1].status is None
    assert client.submit().status_code == 200


@pytest.mark.parametrize(("name", "jobs"), [("hang_before_accept", 0), ("hang_after_accept", 1)])
def test_no_response_comes_before_or_after_acceptance(client, connect, emulator, name, jobs):
    emulator.faults.add(name)
    with pytest.raises(httpx.ReadTimeout):
        connect(emulator, timeout=0.5).submit()
    assert len(emulator.jobs) == jobs
    assert client.submit().status_code == 200


@pytest.mark.parametrize(
    ("style", "content_type"), [("gateway", "application/json"), ("html", "text/html"), ("empty", None)]
)
def test_error_returns_each_status_and_style_and_accepts_no_job(client, emulator, style, content_type):
    for status in (400, 403, 404, 406, 410, 500, 502, 503, 504):
        emulator.faults.add("error", status=status, style=style)
        response = client.submit()
        assert (response.status_code, response.headers.get("content-type")) == (status, content_type)
        assert style != "gateway" or list(response.json()) == ["error"]
        assert (style == "empty") == (response.content == b"")
        emulator.faults.clear()
    assert len(emulator.jobs) == 0


def test_error_after_accept_returns_an_error_for_an_accepted_job(client, emulator):
    emulator.faults.add("error_after_accept")
    assert client.submit().status_code == 504
    assert len(emulator.jobs) == 1


def test_no_request_id_omits_the_id_of_an_accepted_job(client, emulator):
    emulator.faults.add("no_request_id")
    response = client.submit()
    assert (response.status_code, response.json()) == (200, {"status": "QUEUED"})
    assert len(emulator.jobs) == 1


@pytest.mark.parametrize(("name", "jobs"), [("raw", 0), ("raw_after_accept", 1)])
def test_raw_returns_any_body_status_and_headers(client, emulator, name, jobs):
    emulator.faults.add(name, body=b"\xff\x00", status=201, content_type="x/y", headers={"X-More": "1"})
    response = client.submit()
    assert (response.status_code, response.content) == (201, b"\xff\x00")
    assert (response.headers["content-type"], response.headers["x-more"]) == ("x/y", "1")
    assert len(emulator.jobs) == jobs


@pytest.mark.parametrize(
    ("name", "text"),
    [("job_fails", "out of memory"), ("moderation_block", "content moderation"), ("fetch_fails", "HTTP 403")],
)
def test_a_fault_makes_one_job_fail_without_billing_it(client, emulator, name, text):
    emulator.faults.add(name)
    response = client.run()
    assert response.status_code == 422
    assert text in response.json()["error"]
    assert emulator.jobs.spent == 0
    assert client.run().json()["status"] == "COMPLETED"


def test_job_takes_sets_the_duration_of_one_job(client, emulator):
    emulator.faults.add("job_takes", seconds=0.4)
    assert client.run().json()["metrics"]["total_time"] >= 0.4
    client.submitted()
    assert [job.seconds for job in emulator.jobs] == [0.4, 0.05]


def test_an_after_accept_fault_does_not_accept_a_request_with_a_wrong_key(emulator, connect):
    emulator.faults.add("error_after_accept")
    connect(emulator, headers={"x-api-key": "wrong"}).submit()
    assert len(emulator.jobs) == 0
