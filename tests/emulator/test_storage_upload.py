from __future__ import annotations

import pytest

from .image_samples import REFUSED
from .photos import inline, photo


def upload(client, *sources):
    return client.post("/upload-asset", json={"data_urls": sources}).raise_for_status().json()


def test_uploaded_files_are_served_without_a_key(client, connect, emulator):
    response = upload(
        client, f"data:image/png;base64,{inline(photo())}", f"data:image/jpeg;base64,{inline(photo('JPEG'))}"
    )
    files = [connect(emulator, headers={}).get(url) for url in response["file_urls"]]
    assert [file.content for file in files] == [photo(), photo("JPEG")]
    assert response["message"]


@pytest.mark.parametrize(
    ("declared", "extension", "served"),
    [
        ("image/png", ".png", "image/png"),
        ("image/jpeg", ".jpg", "image/jpeg"),
        ("image/jpg", ".jpg", "image/jpeg"),
        ("IMAGE/PJPEG", ".jpg", "image/jpeg"),
        ("image/webp", ".webp", "image/webp"),
        ("image/heic", ".heic", "image/heic"),
        ("image/heif", ".heic", "image/heic"),
        ("image/avif", ".avif", "image/avif"),
        ("image/bmp", ".bmp", "image/bmp"),
        ("image/x-ms-bmp", ".bmp", "image/bmp"),
        ("image/gif", ".gif", "image/gif"),
        ("image/tiff", ".tiff", "image/tiff"),
        ("image/svg+xml", ".svg", "image/svg+xml"),
        ("image/jxl", ".jxl", "image/jxl"),
        ("image/jp2", ".jp2", "image/jp2"),
        ("image/vnd.adobe.photoshop", ".psd", "image/vnd.adobe.photoshop"),
        ("application/pdf", ".pdf", "application/pdf"),
        ("video/mp4", ".mp4", "video/mp4"),
        ("video/quicktime", ".mov", "video/quicktime"),
        ("text/plain", ".txt", "text/plain; charset=utf-8"),
        ("image/x-nobody-knows", ".bin", "application/octet-stream"),
    ],
)
def test_an_upload_is_stored_and_served_with_its_declared_media_type(client, declared, extension, served):
    (url,) = upload(client, f"data:{declared};base64,{inline(b'some bytes')}")["file_urls"]
    assert url.endswith(extension)
    assert client.get(url).headers["content-type"] == served


@pytest.mark.parametrize("declared", ["", "application/octet-stream", "image/x-nobody-knows"])
@pytest.mark.parametrize(
    ("content", "extension", "served"),
    [
        pytest.param(photo("JPEG"), ".jpg", "image/jpeg", id="JPEG"),
        pytest.param(photo("WEBP"), ".webp", "image/webp", id="WEBP"),
        pytest.param(photo("BMP"), ".bmp", "image/bmp", id="BMP"),
        pytest.param(REFUSED["HEIC of an iPhone"][0], ".heic", "image/heic", id="HEIC"),
        pytest.param(REFUSED["AVIF"][0], ".avif", "image/avif", id="AVIF"),
        pytest.param(REFUSED["MP4"][0], ".mp4", "video/mp4", id="MP4"),
        pytest.param(b"some bytes", ".bin", "application/octet-stream", id="unknown"),
    ],
)
def test_an_upload_without_a_specific_media_type_is_recognised_by_its_content(
    client, declared, content, extension, served
):
    (url,) = upload(client, f"data:{declared};base64,{inline(content)}")["file_urls"]
    assert url.endswith(extension)
    assert client.get(url).headers["content-type"] == served


@pytest.mark.parametrize("body", [{}, {"data_urls": []}, {"data_urls": ["x"]}, {"data_urls": ["data:,x"]}, [], 3])
def test_a_body_without_a_list_of_data_urls_is_a_400(client, body):
    assert client.post("/upload-asset", json=body).status_code == 400


@pytest.mark.parametrize("name", ["none.png", "..%2Fjobs.sqlite3", "%2e%2e"])
def test_only_uploads_are_served_as_assets(client, name):
    assert client.get(f"/assets/{name}").status_code == 404
