"""Inspecting an image before it is paid for: what it is, its identity, and its size in pixels."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.source import HEAD_BYTES, ImageFacts, inspect_image, parse_image
from tests.s3_server import S3

from .pictures import HEIGHT, NAMELESS_FILES, OTHER_FILES, WIDTH, jpeg_with, picture, two_pictures

PHOTO, OTHER_PHOTO = picture("JPEG"), picture("JPEG", (40, 30))


def inspect(image: object) -> ImageFacts:
    return inspect_image(parse_image(image), aws_conn_id="aws_default")


@pytest.fixture(params=["s3", "object", "file"])
def put(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes], str]:
    """Write the same photo again and again, to a store of each kind."""

    def write(content: bytes) -> str:
        if request.param == "s3":
            return request.getfixturevalue("s3").put("photo.jpg", content)
        if request.param == "object":
            request.getfixturevalue("memory_store").pipe("/pictures/photo.jpg", content)
            return "memory://pictures/photo.jpg"
        (tmp_path / "photo.jpg").write_bytes(content)
        return str(tmp_path / "photo.jpg")

    return write


def test_an_image_has_a_size_in_pixels_wherever_bytes_of_it_are_read(put: Callable[[bytes], str]) -> None:
    facts = inspect(put(PHOTO))
    assert (facts.width, facts.height) == (WIDTH, HEIGHT)


def test_an_inline_image_has_a_size_in_pixels() -> None:
    facts = inspect(base64.b64encode(PHOTO).decode())
    assert (facts.width, facts.height) == (WIDTH, HEIGHT)


def test_an_image_that_was_replaced_has_another_identity(put: Callable[[bytes], str]) -> None:
    before = inspect(put(PHOTO)).identity
    assert inspect(put(OTHER_PHOTO)).identity != before


def test_an_image_that_was_not_touched_keeps_its_identity(put: Callable[[bytes], str]) -> None:
    image = put(PHOTO)
    assert inspect(image).identity == inspect(image).identity


def test_the_identity_of_a_local_file_is_that_of_its_bytes_wherever_it_is(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(PHOTO)
    assert inspect(tmp_path / "a.jpg").identity == inspect(tmp_path / "b.jpg").identity
    assert inspect(tmp_path / "a.jpg").identity == inspect(base64.b64encode(PHOTO).decode()).identity


def test_the_identity_of_an_object_in_s3_includes_its_address(s3: S3) -> None:
    assert inspect(s3.put("a/front.jpg", PHOTO)).identity != inspect(s3.put("b/front.jpg", PHOTO)).identity


def test_the_identity_of_an_object_whose_store_tells_no_version_is_that_of_its_bytes(bucket_store) -> None:
    bucket_store["pictures/photo.jpg"] = PHOTO
    before = inspect("gs://pictures/photo.jpg").identity
    bucket_store["pictures/photo.jpg"] = PHOTO[:-1] + b"x"
    assert inspect("gs://pictures/photo.jpg").identity != before


def test_a_url_is_not_opened_and_a_new_signature_keeps_its_identity(nowhere: str) -> None:
    one, other = (inspect(f"{nowhere}/a.png?X-Amz-Signature={signature}") for signature in ("abc", "def"))
    assert one == other
    assert (one.width, one.height) == (None, None)
    assert nowhere not in repr(one)


def test_an_object_in_s3_is_inspected_by_one_ranged_get(s3: S3, s3_through) -> None:
    image = s3.put("large.jpg", PHOTO + bytes(2 << 20))
    proxy = s3_through(lambda _: None)
    assert inspect(image).width == WIDTH
    assert [request.method for request in proxy.requests] == ["GET"]
    assert proxy.requests[0].headers["Range"] == f"bytes=0-{HEAD_BYTES - 1}"


def test_a_store_that_ignores_ranges_is_read_no_further_than_the_head(s3: S3, s3_through) -> None:
    whole = PHOTO + bytes(HEAD_BYTES)
    s3_through(lambda _: (200, {"ETag": '"x"'}, whole))
    assert inspect("s3://bucket/a.jpg").width == WIDTH


def test_a_photo_whose_header_lies_beyond_the_head_has_no_size_but_is_accepted(s3: S3) -> None:
    facts = inspect(s3.put("a.jpg", jpeg_with(*[bytes(65_000)] * 5)))
    assert (facts.width, facts.height) == (None, None)


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_a_photo_in_the_archive_is_refused_before_anything_is_sent(s3: S3, storage_class: str) -> None:
    s3.client.put_object(Bucket=s3.bucket, Key="a.jpg", Body=PHOTO, StorageClass=storage_class)
    with pytest.raises(SegmindInputError, match=r"image: s3://\S+/a.jpg is archived .InvalidObjectState.*Restore"):
        inspect(f"s3://{s3.bucket}/a.jpg")


def test_an_empty_image_is_refused(put: Callable[[bytes], str]) -> None:
    with pytest.raises(SegmindInputError, match=r"image: \S+photo.jpg'? is empty. Upload it again"):
        inspect(put(b""))


def test_a_missing_key_that_ends_in_a_space_is_pointed_out(s3: S3) -> None:
    with pytest.raises(SegmindInputError, match=r"S3 has no such object.*the key ends in a space"):
        inspect(f"s3://{s3.bucket}/a.jpg ")


def test_an_object_whose_key_ends_in_a_space_is_found(s3: S3) -> None:
    assert inspect(s3.put("photo.jpg ", PHOTO)).width == WIDTH


@pytest.mark.parametrize(
    "content", [two_pictures("MPO"), two_pictures("PNG"), two_pictures("WEBP"), picture("JPEG", progressive=True)]
)
def test_what_phones_and_editors_write_is_accepted(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(content)
    assert inspect(tmp_path / "photo").width == WIDTH


@pytest.mark.parametrize("kind", [*OTHER_FILES, *NAMELESS_FILES])
def test_another_file_under_the_name_of_a_jpeg_is_refused_by_its_right_name(tmp_path: Path, kind: str) -> None:
    content, *_, name = (OTHER_FILES | NAMELESS_FILES)[kind]
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(SegmindInputError, match=r"whatever its name says. (Convert it to|Give a) JPEG") as caught:
        inspect(tmp_path / "photo.jpg")
    assert f"image: {tmp_path}/photo.jpg is " in str(caught.value)
    assert name in str(caught.value)


def test_a_heic_photo_under_the_name_of_a_jpeg_in_s3_is_to_be_converted(s3: S3) -> None:
    with pytest.raises(SegmindInputError, match=r"is a HEIC photo .as iPhones take., .*Convert it to JPEG"):
        inspect(s3.put("a.jpg", OTHER_FILES["HEIC"][0]))
