"""Faults that decide whether a job is accepted, and what becomes of it."""

from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize(("name", "jobs"), [("cut_before_accept", 0), ("cut_after_accept", 1)])
def test_a_connection_is_cut_without_an_answer(client, emulator, name, jobs):
    emulator.faults.add(name)
    with pytest.raises(httpx.RemoteProtocolError):
        client.submit()
    assert len(emulator.jobs) == jobs
    assert emulator.requests.log[-1].faults == [name]
    assert emulator.requests.log[-1].status is None
    assert client.submit().status_code == 200


@pytest.mark.parametrize(("name", "jobs"), [("hang_before_accept", 0), ("hang_after_accept", 1)])
def test_an_answer_never_comes(client, connect, emulator, name, jobs):
    emulator.faults.add(name)
    with pytest.raises(httpx.ReadTimeout):
        connect(emulator, timeout=0.5).submit()
    assert len(emulator.jobs) == jobs
    assert client.submit().status_code == 200


@pytest.mark.parametrize(
    ("style", "content_type"), [("gateway", "application/json"), ("html", "text/html"), ("empty", None)]
)
def test_an_error_comes_before_anything_is_accepted(client, emulator, style, content_type):
    for status in (400, 403, 404, 406, 410, 500, 502, 503, 504):
        emulator.faults.add("error", status=status, style=style)
        answer = client.submit()
        assert (answer.status_code, answer.headers.get("content-type")) == (status, content_type)
        assert style != "gateway" or list(answer.json()) == ["error"]
        assert (style == "empty") == (answer.content == b"")
        emulator.faults.clear()
    assert len(emulator.jobs) == 0


def test_an_error_can_hide_an_accepted_job(client, emulator):
    emulator.faults.add("error_after_accept")
    assert client.submit().status_code == 504
    assert len(emulator.jobs) == 1


def test_a_2xx_can_lack_the_id(client, emulator):
    emulator.faults.add("no_request_id")
    answer = client.submit()
    assert (answer.status_code, answer.json()) == (200, {"status": "QUEUED"})
    assert len(emulator.jobs) == 1


@pytest.mark.parametrize(("name", "jobs"), [("raw", 0), ("raw_after_accept", 1)])
def test_any_body_can_be_the_answer(client, emulator, name, jobs):
    emulator.faults.add(name, body=b"\xff\x00", status=201, content_type="x/y", headers={"X-More": "1"})
    answer = client.submit()
    assert (answer.status_code, answer.content) == (201, b"\xff\x00")
    assert (answer.headers["content-type"], answer.headers["x-more"]) == ("x/y", "1")
    assert len(emulator.jobs) == jobs


@pytest.mark.parametrize(
    ("name", "text"),
    [("job_fails", "out of memory"), ("moderation_block", "content moderation"), ("fetch_fails", "HTTP 403")],
)
def test_a_job_fails_unbilled(client, emulator, name, text):
    emulator.faults.add(name)
    answer = client.run()
    assert answer.status_code == 422
    assert text in answer.json()["error"]
    assert emulator.jobs.spent == 0
    assert client.run().json()["status"] == "COMPLETED"


def test_one_job_takes_longer(client, emulator):
    emulator.faults.add("job_takes", seconds=0.4)
    assert client.run().json()["metrics"]["total_time"] >= 0.4
    client.submitted()
    assert [job.seconds for job in emulator.jobs] == [0.4, 0.05]


def test_after_accept_means_only_if_it_would_have_been_accepted(emulator, connect):
    emulator.faults.add("error_after_accept")
    connect(emulator, headers={"x-api-key": "wrong"}).submit()
    assert len(emulator.jobs) == 0
