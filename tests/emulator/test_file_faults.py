"""Faults of the result files."""

from __future__ import annotations

import httpx
import pytest


def test_expire_file_makes_the_file_a_404_from_then_on(client, emulator):
    url = client.run().json()["output"]
    emulator.faults.add("expire_file")
    assert [client.get(url).status_code for _ in range(2)] == [404, 404]


def test_truncated_file_ends_before_the_declared_length(client, emulator):
    url = client.run().json()["output"]
    emulator.faults.add("truncated_file", share=0.5)
    with client.stream("GET", url) as response:
        received = _read_until_cut(response)
    whole = client.get(url).content
    assert int(response.headers["content-length"]) == len(whole)
    assert whole.startswith(received)
    assert len(received) == len(whole) // 2


def _read_until_cut(response):
    received = bytearray()
    try:
        for chunk in response.iter_raw():
            received += chunk
    except httpx.RemoteProtocolError:
        return received
    raise AssertionError("the body ended normally")


def test_truncated_chunked_ends_early_without_a_declared_length(client, emulator):
    url = client.run().json()["output"]
    emulator.faults.add("truncated_chunked", share=0.5)
    response, whole = client.get(url), client.get(url).content
    assert "content-length" not in response.headers
    assert response.content == whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("content", "content_type", "start"),
    [
        ("html", "text/html", b"<!doctype"),
        ("empty", "image/png", b""),
        ("text", "text/plain", b"internal"),
        ("text_as_png", "image/png", b"internal"),
    ],
)
def test_wrong_file_serves_another_content_with_status_200(client, emulator, content, content_type, start):
    url = client.run().json()["output"]
    emulator.faults.add("wrong_file", content=content)
    response = client.get(url)
    assert (response.status_code, response.headers["content-type"]) == (200, content_type)
    assert response.content.startswith(start)
    assert (content == "empty") == (response.content == b"")
