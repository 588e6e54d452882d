from __future__ import annotations

import pytest

from .photos import inline, photo


def test_uploads_are_served_without_a_key_under_their_type(client, connect, emulator):
    sources = [f"data:image/png;base64,{inline(photo())}", f"data:image/jpeg;base64,{inline(photo('JPEG'))}"]
    answer = client.post("/upload-asset", json={"data_urls": sources}).json()
    files = [connect(emulator, headers={}).get(url) for url in answer["file_urls"]]
    assert [file.content for file in files] == [photo(), photo("JPEG")]
    assert [file.headers["content-type"] for file in files] == ["image/png", "image/jpeg"]
    assert answer["message"]


@pytest.mark.parametrize("body", [{}, {"data_urls": []}, {"data_urls": ["x"]}, {"data_urls": ["data:,x"]}, [], 3])
def test_what_is_no_list_of_data_urls_is_a_400(client, body):
    assert client.post("/upload-asset", json=body).status_code == 400


@pytest.mark.parametrize("name", ["none.png", "..%2Fjobs.sqlite3", "%2e%2e"])
def test_nothing_but_uploads_is_served(client, name):
    assert client.get(f"/assets/{name}").status_code == 404
