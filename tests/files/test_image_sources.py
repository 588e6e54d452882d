from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from airflow_provider_segmind.api.operation import MAX_JSON_BYTES
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.source import MAX_INLINE_BYTES, inspect_image, parse_image

from .pictures import picture

JPEG, PNG, WEBP = picture("JPEG"), picture("PNG"), picture("WEBP")


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
        ("s3://bucket/photo.jpg ", "s3", "s3://bucket/photo.jpg ", "photo"),
        ("s3://bucket/photo \r\n", "s3", "s3://bucket/photo ", "photo "),
        ("https://h.example/photo.jpg \n", "url", "https://h.example/photo.jpg", "photo"),
        (Path("/data/photo.jpg"), "file", "/data/photo.jpg", "photo"),
        ("gs://gcp@bucket/a/photo.jpg", "object", "gs://bucket/a/photo.jpg", "photo"),
        ("h.example/k.png?X-Amz-Date=1&X-Amz-Signature=hid.den", "file", "h.example/k.png?...", "k"),
        ("/data/what?.png", "file", "/data/what?.png", "what?"),
        ("gs://bucket/k.png?X-Goog-Signature=hidden", "object", "gs://bucket/k.png?...", "k"),
    ],
)
def test_an_image_is_recognised_and_gets_a_label_and_a_stem(
    image: object, kind: str, label: str, stem: str | None
) -> None:
    source = parse_image(image)
    assert (source.location.kind, source.label, source.stem) == (kind, label, stem)


def test_the_key_of_an_s3_uri_keeps_every_character() -> None:
    location = parse_image("s3://other_aws@bucket//a b#c?d%20e.png ").location
    assert (location.conn_id, location.bucket, location.key) == ("other_aws", "bucket", "/a b#c?d%20e.png ")


def test_a_tilde_is_expanded_to_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse_image("~/photo.jpg").label == "/home/somebody/photo.jpg"


@pytest.mark.parametrize("data", [JPEG, PNG, WEBP], ids=["jpeg", "png", "webp"])
def test_base64_with_a_data_uri_prefix_or_line_breaks_is_the_same_image(data: bytes) -> None:
    plain = parse_image(b64(data))
    assert plain == parse_image(f"data:image/png;base64,{b64(data)}") == parse_image(base64.encodebytes(data).decode())
    digest = hashlib.sha256(data).hexdigest()
    assert plain.label == f"inline image, {len(data)} bytes, sha256 {digest[:16]}"
    assert (plain.location.kind, plain.stem, plain.address) == ("inline", digest[:16], f"sha256:{digest}")


def test_the_base64_of_a_jpeg_is_not_mistaken_for_an_absolute_path() -> None:
    assert b64(JPEG).startswith("/9j/")
    assert parse_image(b64(JPEG)).location.kind == "inline"


@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_an_object_storage_path_keeps_its_connection_but_does_not_show_it(protocol: str) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    source = parse_image(ObjectStoragePath(f"{protocol}://bucket/photo.jpg", conn_id="mine"))
    assert source.location.uri == f"{protocol}://mine@bucket/photo.jpg"
    assert source.label == f"{protocol}://bucket/photo.jpg"


def test_a_percent_sign_in_a_local_object_storage_path_is_not_decoded() -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    source = parse_image(ObjectStoragePath("file:///data/100%25.png"))
    assert (source.location.kind, source.label) == ("file", "/data/100%25.png")


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
def test_a_new_signature_does_not_change_the_address_of_a_url(query: str) -> None:
    one = parse_image("https://h.example/a.png?" + query.format("1", "abc"))
    assert one.address == parse_image("https://h.example/a.png?" + query.format("2", "def")).address
    assert one.address != parse_image("https://h.example/b.png?" + query.format("1", "abc")).address


def test_the_version_of_a_presigned_object_is_part_of_its_address() -> None:
    url = "https://h.example/a.png?X-Amz-Signature=abc&versionId="
    assert parse_image(url + "1").address != parse_image(url + "2").address


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://cdn.example/x?id=1", "https://cdn.example/x?id=2"),
        ("s3://bucket/a/front.jpg", "s3://bucket/b/front.jpg"),
        ("s3://bucket/front.jpg", "s3://bucket/front.png"),
        ("s3://bucket/front.jpg", "s3://bucket/front.jpg "),
        ("s3://bucket/front.jpg", "gs://bucket/front.jpg"),
        ("gs://bucket/a/front.jpg", "gs://bucket/b/front.jpg"),
        ("/data/a/front.jpg", "/data/b/front.jpg"),
        ("/data/front.jpg", "/data/front.JPG"),
        (b64(PNG), b64(WEBP)),
    ],
)
def test_sources_that_a_derived_name_cannot_tell_apart_differ_in_their_digest(one: str, other: str) -> None:
    assert parse_image(one).digest != parse_image(other).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://bucket/front.jpg", "s3a://mine@bucket/front.jpg"),
        ("gs://bucket/front.jpg", "gs://mine@bucket/front.jpg"),
        ("/data/front.jpg", "file:///data/front.jpg"),
        ("/data/front.jpg", "/data/x/../front.jpg"),
    ],
)
def test_another_spelling_or_connection_keeps_the_digest_of_a_source(one: str, other: str) -> None:
    assert parse_image(one).digest == parse_image(other).digest


@pytest.mark.parametrize(
    "image",
    ["https://me:hidden@h.example/a.png?sig=hidden", "https://h.example/a.png?t=hidden#hidden", b64(PNG + b"hidden")],
)
def test_the_repr_of_a_source_shows_no_secret_and_no_base64(image: str) -> None:
    source = parse_image(image)
    shown = repr(source) + repr(source.location)
    assert "hidden" not in shown
    assert b64(PNG)[:40] not in shown


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("", "rendered to nothing"),
        ("  \n", "rendered to nothing"),
        ("None", "rendered to nothing"),
        (None, "is None. .*XCom of an upstream task, that task returned nothing"),
        (PNG, "of type bytes. Give a string or a path"),
        (["s3://b/k.png"], r"is \['s3://b/k.png'\], of type list"),
        ("~nosuch/x.png", "no such home"),
        ("\ud800.png", "is not valid UTF-8"),
        (Path("x" * 5000), "5000 characters"),
        ("ftp://h.example/a.png", "cannot open this store .*ftp.*Check the scheme"),
        ("s3://bucket", "a folder. Name a file or an object"),
        ("s3://bucket/", "a folder"),
        ("s3://bucket/folder/", "a folder"),
        ("s3:///key.png", "names no bucket. Write s3://bucket/key"),
        ("s3:/bucket/key.png", "two slashes"),
        ("https:/h.example/a.png", "two slashes"),
        ("//cdn.example.com/x.png", "has no scheme. Write 'https://cdn.example.com/x.png' for a URL"),
        ("https:///a.png", "not a valid URL"),
        ("https://h.example:port/a.png", "not a valid URL"),
        ("https://[h.example/a.png", "not a valid URL"),
        ("https://h.example/a b.png", "not a valid URL"),
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
        ("data:image/png;base64,", "is empty. Upload it again"),
        ("data:image/png;base64,####", "does not decode"),
        ("data:image/png;base64,é", "does not decode"),
        (b64(PNG)[:-3], "does not decode"),
        ("data:image/png;base64," + b64(b"hello, this is not a picture"), "is text, whatever its name says"),
        (b64(b"GIF89a" + bytes(100)), "is a GIF image.*Convert it to JPEG, PNG or WEBP"),
        (b64(b"%PDF-1.7" + bytes(100)), "is a PDF document.*Give a JPEG, PNG or WEBP"),
        ("A" * 100, "unknown format"),
    ],
)
def test_an_unusable_image_is_refused_with_its_parameter_and_a_remedy(image: object, words: str) -> None:
    with pytest.raises(SegmindInputError, match=f"^image.*{words}"):
        parse_image(image)


def test_errors_call_an_image_by_the_name_of_its_parameter() -> None:
    with pytest.raises(SegmindInputError, match=r"^images\[3\] is 'hello'"):
        parse_image("hello", "images[3]")
    assert parse_image("a.png", "images[3]").location.where == "images[3]: a.png"


@pytest.mark.parametrize("failure", [AttributeError, TypeError, ImportError])
def test_a_broken_object_storage_is_an_installation_problem_and_not_a_temporary_one(
    monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    from airflow.providers.common.compat import sdk

    def broken(*_: object, **__: object) -> None:
        raise failure("no attribute '_parse_path'")

    monkeypatch.setitem(vars(sdk), "ObjectStoragePath", broken)
    source = parse_image("gs://bucket/a.png")
    with pytest.raises(SegmindInputError, match=rf"{failure.__name__}: no attribute.*universal-pathlib"):
        inspect_image(source, aws_conn_id=None)
    with pytest.raises(SegmindInputError, match=r"universal-pathlib"):
        parse_image("unheard://bucket/a.png")


def test_an_inline_image_fits_into_a_response_of_the_request_history() -> None:
    assert MAX_INLINE_BYTES * 4 / 3 + (256 << 10) < MAX_JSON_BYTES


def test_base64_that_is_too_large_is_refused_before_it_is_decoded() -> None:
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


def test_the_stem_of_a_long_name_leaves_room_for_an_extension() -> None:
    stem = parse_image(f"https://h.example/{'é' * 300}.png").stem
    assert stem is not None
    assert len(stem.encode()) <= 200
