from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from .conftest import HISTORY
from .photos import inline, photo


def rows(client, **query):
    return client.get(HISTORY, params=query).raise_for_status().json()["data"]


def test_a_row_has_the_inputs_the_cost_and_the_url_of_the_file(client):
    request_id = client.submitted(preserve_alpha=False)
    output = client.finished(request_id).json()["output"]
    (row,) = rows(client)
    assert row == client.get(f"{HISTORY}/{request_id}").json()
    assert row["request_id"] == request_id
    assert row["model_name"] == "bria-erase-foreground"
    assert row["model_status"] == "COMPLETED"
    assert row["credits_deduction"] == 0.03
    assert row["request_body"] == {"image": inline(photo()), "preserve_alpha": False}
    assert row["generation_url"] == output
    assert row["latency_ms"] > 0
    assert abs(datetime.fromisoformat(row["model_created"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert row["error"] is None


def test_failed_and_running_requests_are_listed_too(client, emulator):
    failed = client.submitted("no image!")
    client.finished(failed)
    emulator.faults.add("job_takes", seconds=60)
    running = client.submitted()
    assert {row["request_id"]: row["model_status"] for row in rows(client)} == {failed: "FAILED", running: "PENDING"}
    assert [row["request_id"] for row in rows(client, status="PENDING")] == [running]
    assert [row["error"][:13] for row in rows(client, status="FAILED")] == ["Invalid image"]


@pytest.mark.segmind_emulator(job_seconds=60)
def test_pages_contain_each_row_once_newest_first(client):
    ids = [client.submitted() for _ in range(7)]
    pages = [client.get(HISTORY, params={"page": page, "per_page": 3}).json() for page in (1, 2, 3, 4)]
    assert [row["request_id"] for page in pages for row in page["data"]] == ids[::-1]
    assert [len(page["data"]) for page in pages] == [3, 3, 1, 0]
    assert (pages[0]["total"], pages[0]["total_pages"]) == (7, 3)


@pytest.mark.segmind_emulator(job_seconds=60)
def test_rows_can_be_sorted_oldest_first(client):
    ids = [client.submitted() for _ in range(3)]
    assert [row["request_id"] for row in rows(client, sort_by="model_created", sort_order="asc")] == ids


@pytest.mark.segmind_emulator(job_seconds=60)
@pytest.mark.parametrize(("name", "found"), [("bria", 1), ("erase-fore", 1), ("seedream", 0)])
def test_model_name_matches_a_part_of_the_name(client, name, found):
    client.submitted()
    assert len(rows(client, model_name=name)) == found


@pytest.mark.segmind_emulator(job_seconds=60)
@pytest.mark.parametrize(("first", "last", "found"), [(-1, 1, 1), (0, 0, 1), (-3, -1, 0), (1, 2, 0)])
def test_the_window_includes_its_first_and_last_day(client, first, last, found):
    request_id = client.submitted()
    today = datetime.fromisoformat(client.get(f"{HISTORY}/{request_id}").json()["model_created"]).date()
    window = {"from_date": today + timedelta(first), "to_date": today + timedelta(last)}
    assert len(rows(client, **{name: day.isoformat() for name, day in window.items()})) == found


@pytest.mark.parametrize(
    "query",
    [
        {"per_page": 101},
        {"per_page": 0},
        {"page": 0},
        {"page": "first"},
        {"from_date": "2025-01-01", "to_date": "2025-02-02"},
        {"from_date": "2025-01-02", "to_date": "2025-01-01"},
        {"from_date": "yesterday"},
        {"status": "DONE"},
        {"sort_by": "mood"},
        {"sort_order": "up"},
    ],
)
def test_an_invalid_query_is_a_400(client, query):
    assert client.get(HISTORY, params=query).status_code == 400


def test_an_unknown_id_is_a_404(client):
    assert client.get(f"{HISTORY}/nobody").status_code == 404


@pytest.mark.segmind_emulator(history_delay=60)
def test_history_delay_hides_new_requests(client):
    request_id = client.submitted()
    assert rows(client) == []
    assert client.get(f"{HISTORY}/{request_id}").status_code == 404
