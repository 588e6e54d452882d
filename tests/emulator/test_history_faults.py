"""Faults of the records of the gateway and of the request history."""

from __future__ import annotations

import httpx
import pytest

from .conftest import HISTORY
from .photos import inline, photo


def test_expire_record_makes_the_id_a_404_while_the_history_keeps_it(client, emulator):
    request_id = client.submitted()
    client.finished(request_id)
    emulator.faults.add("expire_record")
    assert client.status(request_id).status_code == 404
    assert client.get(f"/v2/requests/{request_id}").status_code == 404
    url = client.get(f"{HISTORY}/{request_id}").json()["generation_url"]
    assert client.get(url).status_code == 200


def test_history_without_body_omits_the_inputs(client, emulator):
    request_id = client.submitted()
    emulator.faults.add("history_without_body", times=2)
    assert "request_body" not in client.get(HISTORY).json()["data"][0]
    assert "request_body" not in client.get(f"{HISTORY}/{request_id}").json()


def test_history_without_time_omits_the_time_of_the_request(client, emulator):
    request_id = client.submitted()
    emulator.faults.add("history_without_time")
    assert "model_created" not in client.get(f"{HISTORY}/{request_id}").json()


def test_history_short_body_shortens_long_inputs(client, emulator):
    client.submitted(preserve_alpha=True)
    emulator.faults.add("history_short_body", length=10)
    (row,) = client.get(HISTORY).json()["data"]
    assert row["request_body"] == {"image": inline(photo())[:10] + "...", "preserve_alpha": True}


@pytest.mark.parametrize("rows", ["results", "items", "generations", "list"])
def test_history_shape_moves_the_rows_to_another_key(client, emulator, rows):
    request_id = client.submitted()
    emulator.faults.add("history_shape", rows=rows)
    body = client.get(HISTORY).json()
    assert [row["request_id"] for row in (body if rows == "list" else body[rows])] == [request_id]


def test_the_history_can_list_one_request_late_and_be_unreachable_for_all(client, emulator):
    emulator.faults.add("history_late", seconds=60)
    client.submitted()
    listed = client.submitted()
    assert [row["request_id"] for row in client.get(HISTORY).json()["data"]] == [listed]
    emulator.faults.add("cut_before_accept", on=["history", "record"], times=None)
    for path in (HISTORY, f"{HISTORY}/{listed}"):
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(path)
