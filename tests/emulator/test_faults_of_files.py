"""Faults of the result files."""

from __future__ import annotations

import httpx
import pytest


def test_a_file_expires_early(client, emulator):
    url = client.run().json()["output"]
    emulator.faults.add("expire_file")
    assert [client.get(url).status_code for _ in range(2)] == [404, 404]


def test_a_file_can_end_before_its_declared_length(client, emulator):
    url = client.run().json()["output"]
    emulator.faults.add("truncated_file", share=0.5)
    with client.stream("GET", url) as answer:
        received = _read_until_cut(answer)
    whole = client.get(url).content
    assert int(answer.headers["content-length"]) == len(whole)
    assert whole.startswith(received)
    assert len(received) == len(whole) // 2


def _read_until_cut(answer):
    received = bytearray()
    try:
        for chunk in answer.iter_raw():
            received += chunk
    except httpx.RemoteProtocolError:
        return received
    raise AssertionError("the file ended properly")


def test_a_file_can_be_cut_short_without_a_declared_length(client, emulator):
    url = client.run().json()["output"]
    emulator.faults.add("truncated_chunked", share=0.5)
    answer, whole = client.get(url), client.get(url).content
    assert "content-length" not in answer.headers
    assert answer.content == whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("content", "content_type", "start"),
    [
        ("html", "text/html", b"<!doctype"),
        ("empty", "image/png", b""),
        ("text", "text/plain", b"internal"),
        ("text_as_png", "image/png", b"internal"),
    ],
)
def test_a_file_can_be_something_else(client, emulator, content, content_type, start):
    url = client.run().json()["output"]
    emulator.faults.add("wrong_file", content=content)
    answer = client.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    assert answer.content.startswith(start)
    assert (content == "empty") == (answer.content == b"")
