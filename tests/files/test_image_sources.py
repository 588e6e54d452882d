from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from airflow_provider_segmind.api.operation import MAX_JSON_BYTES
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.source import MAX_INLINE_BYTES, parse_image

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(range(256))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("image", "kind", "label", "stem"),
    [
        ("https://h.example/a/photo%201.jpg?token=x#f", "url", "https://h.example/a/photo%201.jpg", "photo 1"),
        ("https://me:pw@h.example:8443/", "url", "https://h.example:8443/", None),
        ("HTTP://h.example/x.tar.png", "url", "HTTP://h.example/x.tar.png", "x.tar"),
        ("s3://bucket/in/photo.jpg", "s3", "s3://bucket/in/photo.jpg", "photo"),
        ("s3a://bucket/photo.jpg", "s3", "s3://bucket/photo.jpg", "photo"),
        ("s3://other_aws@bucket/a#b?c%20d.png", "s3", "s3://bucket/a#b?c%20d.png", "a#b?c%20d"),
        ("/data/photo.jpg", "file", "/data/photo.jpg", "photo"),
        ("file:///data/my%20photo.jpg", "file", "/data/my photo.jpg", "my photo"),
        ("file://localhost/data/a.png", "file", "/data/a.png", "a"),
        ("photo.jpg", "file", "photo.jpg", "photo"),
        ("./photo", "file", "./photo", "photo"),
        ("/cas/" + "0123456789abcdef" * 4, "file", "/cas/" + "0123456789abcdef" * 4, "0123456789abcdef" * 4),
        ("  /data/padded.png\n", "file", "/data/padded.png", "padded"),
        (Path("/data/photo.jpg"), "file", "/data/photo.jpg", "photo"),
        ("gs://gcp@bucket/a/photo.jpg", "object", "gs://bucket/a/photo.jpg", "photo"),
        ("h.example/k.png?X-Amz-Date=1&X-Amz-Signature=hid.den", "file", "h.example/k.png?...", "k"),
        ("/data/what?.png", "file", "/data/what?.png", "what?"),
        ("gs://bucket/k.png?X-Goog-Signature=hidden", "object", "gs://bucket/k.png?...", "k"),
    ],
)
def test_a_source_is_recognised_and_named(image: object, kind: str, label: str, stem: str | None) -> None:
    source = parse_image(image)
    assert (source.kind, source.label, source.stem) == (kind, label, stem)


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse_image("~/photo.jpg").label == "/home/somebody/photo.jpg"


@pytest.mark.parametrize("data", [JPEG, PNG, WEBP], ids=["jpeg", "png", "webp"])
def test_base64_and_its_data_uri_and_its_wrapped_form_are_the_same_image(data: bytes) -> None:
    plain = parse_image(b64(data))
    assert plain == parse_image(f"data:image/png;base64,{b64(data)}") == parse_image(base64.encodebytes(data).decode())
    digest = hashlib.sha256(data).hexdigest()
    assert plain.label == f"inline image, {len(data)} bytes, sha256 {digest[:16]}"
    assert (plain.kind, plain.stem, plain.identity) == ("inline", digest[:16], f"sha256:{digest}")


def test_base64_of_a_jpeg_is_not_taken_for_the_absolute_path_it_looks_like() -> None:
    assert b64(JPEG).startswith("/9j/")
    assert parse_image(b64(JPEG)).kind == "inline"


@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_an_object_storage_path_keeps_its_connection_and_hides_it(protocol: str) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    source = parse_image(ObjectStoragePath(f"{protocol}://bucket/photo.jpg", conn_id="mine"))
    assert source.value == f"{protocol}://mine@bucket/photo.jpg"
    assert source.label == f"{protocol}://bucket/photo.jpg"


def test_a_local_object_storage_path_is_a_file_with_its_name_as_it_is() -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    source = parse_image(ObjectStoragePath("file:///data/100%25.png"))
    assert (source.kind, source.label) == ("file", "/data/100%25.png")


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={}&X-Amz-Signature={}",
        "AWSAccessKeyId=A&Expires={}&Signature={}",
        "GoogleAccessId=g&Expires={}&Signature={}",
        "X-Goog-Date={}&X-Goog-Signature={}",
        "sv=2024-01-01&se={}&sig={}",
    ],
)
def test_a_url_presigned_anew_is_the_same_image(query: str) -> None:
    one = parse_image("https://h.example/a.png?" + query.format("1", "abc"))
    assert one.identity == parse_image("https://h.example/a.png?" + query.format("2", "def")).identity
    assert one.identity != parse_image("https://h.example/b.png?" + query.format("1", "abc")).identity


def test_another_version_of_a_presigned_object_is_another_image() -> None:
    url = "https://h.example/a.png?X-Amz-Signature=abc&versionId="
    assert parse_image(url + "1").identity != parse_image(url + "2").identity


def test_an_unsigned_query_is_part_of_the_identity() -> None:
    assert parse_image("https://h.example/i?id=1").identity != parse_image("https://h.example/i?id=2").identity


@pytest.mark.parametrize(
    "image",
    ["https://me:hidden@h.example/a.png?sig=hidden", "https://h.example/a.png?t=hidden#hidden", b64(PNG + b"hidden")],
)
def test_repr_shows_no_secret_and_no_base64(image: str) -> None:
    shown = repr(parse_image(image))
    assert "hidden" not in shown
    assert b64(PNG)[:40] not in shown


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("", "rendered to nothing"),
        ("  \n", "rendered to nothing"),
        ("None", "rendered to nothing"),
        (None, "is None: .*XCom, that gave nothing"),
        (b"\x89PNG", r"is b'.x89PNG', a bytes"),
        (["s3://b/k.png"], r"is \['s3://b/k.png'\], a list"),
        ("~nosuch/x.png", "knows no such home"),
        ("\ud800.png", "is no UTF-8"),
        (Path("x" * 5000), "5000 characters"),
        ("ftp://h.example/a.png", "ftp:// is unknown"),
        ("s3://bucket", "names no object"),
        ("s3://bucket/", "names no object"),
        ("s3://bucket/folder/", "names no object"),
        ("s3:///key.png", "names no bucket"),
        ("s3:/bucket/key.png", "two slashes"),
        ("https:/h.example/a.png", "two slashes"),
        ("https:///a.png", "no valid URL"),
        ("https://h.example:port/a.png", "no valid URL"),
        ("https://[h.example/a.png", "no valid URL"),
        ("https://h.example/a b.png", "no valid URL"),
        ("file://folder/a.png", "three slashes"),
        ("/data/folder/", "a folder"),
        ("gs://bucket/folder/", "a folder"),
        ("/data/a\0.png", "NUL"),
        ("hello", "neither a URL nor a path nor Base64"),
        ("a picture of a cat", "neither a URL nor a path nor Base64"),
        ("x/" + "y-" * 150, "neither a URL nor a path nor Base64"),
        ("data:image/png,raw", "without Base64"),
        ("data:text/plain;base64,aGVsbG8=", "'text/plain'"),
        ("data:;base64,aGVsbG8=", "no media type"),
        ("data:image/png;base64,", "0 bytes"),
        ("data:image/png;base64,####", "does not decode"),
        ("data:image/png;base64,é", "does not decode"),
        (b64(PNG)[:-3], "does not decode"),
        ("data:image/png;base64," + b64(b"hello, I am no picture"), "looks like text"),
        (b64(b"GIF89a" + bytes(100)), "looks like a GIF"),
        (b64(b"%PDF-1.7" + bytes(100)), "looks like a PDF"),
        ("A" * 100, "looks like unknown data"),
    ],
)
def test_bad_input_is_refused_with_the_parameter_and_a_remedy(image: object, words: str) -> None:
    with pytest.raises(SegmindInputError, match=f"^image.*{words}"):
        parse_image(image)


def test_what_goes_inline_fits_into_the_historys_answer_as_base64() -> None:
    assert MAX_INLINE_BYTES * 4 / 3 + (256 << 10) < MAX_JSON_BYTES


def test_base64_beyond_the_limit_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(SegmindInputError, match=r"more than 7 MiB.*S3.*upload"):
        parse_image("data:image/png;base64," + "A" * (MAX_INLINE_BYTES // 3 * 4 + 8))


@pytest.mark.parametrize(
    "image",
    [
        "ftp://me:hidden@h.example/a",
        "https://h.example:x/a?sig=hidden",
        "https://h ex/a?sig=hidden",
        "htps://h.example/a.png?sig=hidden",
        "https:/h.example/a.png?sig=hidden",
        "https:/me:hidden@h.example/a.png",
        "s3:///a.png?X-Amz-Signature=hidden",
        "file://h.example/a.png?sig=hidden",
        "h.example/a.png?Signature=hidden/",
        ["https://h.example/a.png?sig=hidden"],
    ],
)
def test_an_error_shows_no_secret(image: object) -> None:
    with pytest.raises(SegmindInputError) as caught:
        parse_image(image)
    assert "hidden" not in str(caught.value)


def test_a_long_name_leaves_room_for_an_extension() -> None:
    stem = parse_image(f"https://h.example/{'é' * 300}.png").stem
    assert stem is not None
    assert len(stem.encode()) <= 200
