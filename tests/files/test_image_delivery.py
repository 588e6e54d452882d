from __future__ import annotations

import base64
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files import source
from airflow_provider_segmind.files.source import ImageDelivery
from tests.s3_server import PNG, S3

from .delivering import deliver


def decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


class Uploads:
    """Somebody's upload, which sees what arrives."""

    def __init__(self) -> None:
        self.content = b""

    def __call__(self, what: bytes) -> str:
        self.content = what
        return "https://assets.example/1"


def test_a_url_goes_as_it_is_with_its_query() -> None:
    assert deliver("https://h.example/a.png?sig=x") == "https://h.example/a.png?sig=x"


@pytest.mark.parametrize("size", [85, 86, 87, source.CHUNK, source.CHUNK + 1, 3 * source.CHUNK + 2])
def test_a_local_file_goes_as_plain_base64(tmp_path: Path, size: int) -> None:
    content = PNG + os.urandom(size - len(PNG)) if size > len(PNG) else PNG[:size]
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    assert decoded(deliver(path)) == content
    assert decoded(deliver(path.as_uri())) == content


def test_s3_inline_is_read_by_the_worker(s3: S3) -> None:
    assert decoded(deliver(s3.put("a.png"), "inline")) == PNG


def test_a_url_inline_is_read_by_the_worker_through_redirects_without_any_key(serve) -> None:
    there = serve(lambda _: (200, {}, PNG))
    here = serve(lambda _: (302, {"Location": f"{there.url}/real.png"}, b""))
    assert decoded(deliver(f"{here.url}/a.png", "inline")) == PNG
    assert not {"authorization", "x-api-key"} & {name.lower() for name in there.requests[0].headers}


def test_a_url_that_trickles_arrives_whole(serve) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (PNG[:3], PNG[3:10], PNG[10:])) + b"0\r\n\r\n"
    server = serve(lambda _: (200, {"Transfer-Encoding": "chunked"}, chunks))
    assert decoded(deliver(f"{server.url}/a.png", "inline")) == PNG


def test_a_trickle_ends_at_its_deadline(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_HTTP_SECONDS", -1.0)
    with pytest.raises(SegmindStorageError, match=r"takes longer"):
        deliver(serve(lambda _: (200, {}, PNG)).url + "/a.png", "inline")


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, SegmindInputError), (403, SegmindInputError), (429, SegmindStorageError), (502, SegmindStorageError)],
)
def test_a_url_that_is_refused_says_who_mends_it_and_hides_the_query(serve, status: int, error: type) -> None:
    with pytest.raises(error, match=rf"image: \S+/a.png: its server answered {status}") as caught:
        deliver(serve(lambda _: (status, {}, b"")).url + "/a.png?sig=hidden", "inline")
    assert "hidden" not in str(caught.value)


def test_the_log_line_of_a_fetch_hides_the_query(serve) -> None:
    url = serve(lambda _: (200, {}, PNG)).url + "/a.png"
    code = (
        "import logging\n"
        "from airflow_provider_segmind.files.source import open_url\n"
        "logging.basicConfig(force=True); logging.getLogger('httpx').setLevel('INFO')\n"
        f"with open_url('{url}?sig=hidden', 'a label') as chunks: list(chunks)"
    )  # in a process of its own: the hooks have quieted this one's
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert f"GET {url}" in said
    assert "hidden" not in said


def test_a_redirect_loop_is_the_users_to_mend(serve) -> None:
    with pytest.raises(SegmindInputError, match=r"TooManyRedirects"):
        deliver(serve(lambda _: (302, {"Location": "/a.png"}, b"")).url + "/a.png", "inline")


def test_a_url_whose_server_is_down_may_be_tried_again(nowhere: str) -> None:
    with pytest.raises(SegmindStorageError, match=r"cannot be read .ConnectError"):
        deliver(f"{nowhere}/a.png", "inline")


def test_a_body_cut_short_may_be_tried_again(serve) -> None:
    server = serve(lambda _: (200, {"Content-Length": "9999", "Connection": "close"}, PNG))
    with pytest.raises(SegmindStorageError, match=r"cannot be read .RemoteProtocolError"):
        deliver(f"{server.url}/a.png", "inline")


@pytest.mark.parametrize("delivery", ["auto", "inline"])
def test_base64_goes_as_plain_base64_without_its_prefix(delivery: ImageDelivery) -> None:
    text = base64.b64encode(PNG).decode()
    assert deliver(f"data:image/png;base64,{text}", delivery) == text


def test_an_object_of_another_store_is_read_by_the_worker(memory_store) -> None:
    memory_store.pipe("/pictures/a.png", PNG)
    assert decoded(deliver("memory://pictures/a.png")) == PNG


def test_a_missing_object_of_another_store_is_the_users_to_mend(memory_store) -> None:
    with pytest.raises(SegmindInputError, match=r"image: memory://pictures/absent.png: the store has no such object"):
        deliver("memory://pictures/absent.png")


def test_a_store_without_its_provider_says_what_to_install() -> None:
    with pytest.raises(SegmindInputError, match=r"image: abfs://box/a.png: .*install its provider"):
        deliver("abfs://box/a.png")


@pytest.mark.parametrize("delivery", ["auto", "inline", "upload"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has 0 bytes"),
        (b"these are words\n", "looks like text, whatever its name says"),
        ("größer".encode(), "looks like text"),
        (b"<!DOCTYPE html><p>Sign in", "looks like an HTML page"),
        (b"<?xml version='1.0'?><svg/>", "looks like SVG or XML"),
        (b"PK\x03\x04zip", "looks like a ZIP archive"),
        (b"\0\0\0\x18ftypheic", "looks like HEIC"),
        (b"\x01\x02\x03", "looks like unknown data .01 02 03"),
    ],
)
def test_what_is_no_image_is_refused_whatever_its_name(
    tmp_path: Path, content: bytes, words: str, delivery: ImageDelivery
) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(SegmindInputError, match=f"image: {path} {words}"):
        deliver(path, delivery)


def test_a_folder_a_missing_file_and_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "file").touch()
    for path, words in {
        tmp_path: "is a folder",
        tmp_path / "absent.png": "no such file on this worker",
        tmp_path / "file" / "a.png": "no such file on this worker",
        tmp_path / "pipe.png": "is no regular file",
    }.items():
        with pytest.raises(SegmindInputError, match=words):
            deliver(path)


@pytest.mark.parametrize("kind", ["file", "url", "s3"])
def test_an_image_too_large_for_inline_says_what_to_use(
    kind: str, tmp_path: Path, serve, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_INLINE_BYTES", 1 << 20)
    content = PNG.ljust((1 << 20) + 1, b"\0")
    (tmp_path / "a.png").write_bytes(content)
    sources = {
        "file": lambda: tmp_path / "a.png",
        "url": lambda: serve(lambda _: (200, {}, content)).url + "/a.png",
        "s3": lambda: s3.put("a.png", content),
    }
    with pytest.raises(SegmindInputError, match='larger than 1 MiB: use image_delivery="upload"'):
        deliver(sources[kind](), "inline")


@pytest.mark.parametrize("kind", ["inline", "file", "url", "s3", "object"])
def test_an_image_is_uploaded_from_wherever_it_lies(kind: str, serve, s3: S3, memory_store, tmp_path: Path) -> None:
    memory_store.pipe("/pictures/a.png", PNG)
    (tmp_path / "a.png").write_bytes(PNG)
    image = {
        "inline": base64.b64encode(PNG).decode(),
        "file": tmp_path / "a.png",
        "url": f"{serve(lambda _: (200, {}, PNG)).url}/a",
        "s3": s3.put("a"),
        "object": "memory://pictures/a.png",
    }
    uploads = Uploads()
    assert deliver(image[kind], "upload", upload=uploads) == "https://assets.example/1"
    assert uploads.content == PNG


def test_a_missing_file_is_told_without_what_may_be_a_signature() -> None:
    with pytest.raises(SegmindInputError, match=r"image: 'h.example/k.png\?\.\.\.': no such file") as caught:
        deliver("h.example/k.png?X-Amz-Signature=" + "n" * 64)
    assert "nnn" not in "".join(traceback.format_exception(caught.value))


def test_an_upload_that_fails_raises_its_own_error(tmp_path: Path) -> None:
    def upload(_: bytes) -> str:
        raise FileNotFoundError("of the upload")

    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with pytest.raises(FileNotFoundError, match=r"of the upload"):
        deliver(path, "upload", upload=upload)
