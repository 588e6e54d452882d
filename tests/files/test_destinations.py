from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.destination import (
    check_destination,
    parse_destination,
    refuse_same_place,
)
from airflow_provider_segmind.files.source import parse_image
from tests.s3_server import S3


@pytest.mark.parametrize(
    ("destination", "kind", "uri", "is_prefix"),
    [
        ("s3://bucket/out/a.png", "s3", "s3://bucket/out/a.png", False),
        ("s3a://bucket/out/", "s3", "s3://bucket/out/", True),
        ("s3://bucket/", "s3", "s3://bucket/", True),
        ("s3://aws_other@bucket/a.png", "s3", "s3://aws_other@bucket/a.png", False),
        ("/out/a.png", "file", "/out/a.png", False),
        ("/out/", "file", "/out/", True),
        ("a.png", "file", "a.png", False),
        ("file:///out/my%20a.png", "file", "/out/my a.png", False),
        ("file:///out/", "file", "/out/", True),
        (Path("/out/a.png"), "file", "/out/a.png", False),
        ("gs://bucket/out/", "object", "gs://bucket/out/", True),
        (" s3://bucket/a.png\n", "s3", "s3://bucket/a.png", False),
        ("s3://bucket/a.png ", "s3", "s3://bucket/a.png ", False),
    ],
)
def test_a_destination_is_recognised(destination: object, kind: str, uri: str, is_prefix: bool) -> None:
    parsed = parse_destination(destination)
    assert (parsed.location.kind, parsed.location.uri, parsed.is_prefix) == (kind, uri, is_prefix)


def test_an_object_storage_path_keeps_its_connection() -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    location = parse_destination(ObjectStoragePath("s3://bucket/a.png", conn_id="mine")).location
    assert (location.conn_id, location.bucket, location.key) == ("mine", "bucket", "a.png")


@pytest.mark.parametrize("extension", [".png", "png"])
def test_a_result_at_a_prefix_has_the_stem_of_its_source_and_an_extension_of_its_own(extension: str) -> None:
    in_s3 = parse_destination("s3://mine@b/out/").locate(stem="photo", extension=extension)
    assert (in_s3.uri, in_s3.label) == ("s3://mine@b/out/photo.png", "s3://b/out/photo.png")
    assert (in_s3.bucket, in_s3.key, in_s3.conn_id) == ("b", "out/photo.png", "mine")
    assert parse_destination("/out/").locate(stem="a/b", extension=extension).uri == "/out/a_b.png"


def test_a_destination_that_names_an_object_is_used_as_it_is() -> None:
    assert parse_destination("s3://b/out/a.jpg").locate(stem="photo", extension=".png").uri == "s3://b/out/a.jpg"


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ("", "rendered to nothing"),
        ("None", "rendered to nothing"),
        (None, "is None. .*that task returned nothing"),
        (3, "is 3, of type int. Give a string or a path"),
        ("s3://bucket", "has no key"),
        ("s3:///key.png", "names no bucket"),
        ("s3:/bucket/key.png", "two slashes"),
        ("https://h.example/a.png", "a URL cannot be written to"),
        ("//nas.example.com/out/", "start a local path with a single slash"),
        ("ftp://h.example/a.png", "cannot open this store"),
        ("file://out/a.png", "three slashes"),
        ("~nosuch/out.png", "no such home"),
        ("x" * 5000, "5000 characters"),
        (f"/out/{'é' * 150}.png", "nor a name in it"),
        ("\ud800.png", "is not valid UTF-8"),
    ],
)
def test_an_unusable_destination_is_refused_with_its_parameter_and_a_remedy(destination: object, words: str) -> None:
    with pytest.raises(SegmindInputError, match=f"^destination.*{words}"):
        parse_destination(destination)


def test_a_local_folder_without_a_trailing_slash_is_refused(tmp_path: Path) -> None:
    for folder in (str(tmp_path), tmp_path, tmp_path.as_uri()):
        with pytest.raises(SegmindInputError, match=f"destination is '{tmp_path}', a folder. Write '{tmp_path}/'"):
            parse_destination(folder)


def check(destination: object) -> None:
    check_destination(parse_destination(destination), aws_conn_id="aws_default")


@pytest.mark.parametrize("destination", ["abfs://box/a.png", "sftp://box/out/"])
def test_a_store_whose_provider_is_missing_is_refused_before_anything_is_paid(destination: str) -> None:
    with pytest.raises(SegmindInputError, match=rf"destination: {destination}: .*install the store's provider"):
        check(destination)


def test_checking_a_destination_writes_nothing(s3: S3, memory_store, tmp_path: Path) -> None:
    for place in (f"s3://{s3.bucket}", "memory://results", f"{tmp_path}/new"):
        check(f"{place}/a.png")
        check(f"{place}/out/")
    assert (s3.keys(), memory_store.find("/results"), list(tmp_path.iterdir())) == ([], [], [])


@pytest.mark.parametrize("destination", ["in_the_way/a.png", "in_the_way/out/", "dangling/out/a.png"])
def test_a_local_path_where_no_folder_can_be_made_is_refused_before_anything_is_paid(
    tmp_path: Path, destination: str
) -> None:
    (tmp_path / "in_the_way").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(
        SegmindInputError, match=rf"destination: {tmp_path}/{destination} cannot be written: {tmp_path}"
    ):
        check(tmp_path.as_posix() + "/" + destination)


@pytest.mark.parametrize(
    ("image", "destination"),
    [
        ("s3://b/in/cup.png", "s3://b/in/cup.png"),
        ("s3://b/in/cup.png", "s3://b/in/"),
        ("s3a://mine@b/in/cup.png", "s3n://other@b/in/"),
        ("gs://b/cup.png", "gs://b/cup.png"),
        ("gs://mine@b/cup.png", "gcs://b/"),
        ("{}/cup.png", "{}/cup.png"),
        ("{}/cup.png", "{}/"),
        ("file://{}/cup.png", "{}/x/../"),
        ("{}/link.png", "{}/cup.png"),
        ("{}/cup.png", "{}/linked/"),
    ],
)
def test_a_result_that_would_replace_its_own_image_is_refused(tmp_path: Path, image: str, destination: str) -> None:
    (tmp_path / "link.png").symlink_to("cup.png")
    (tmp_path / "linked").symlink_to(".")
    source = parse_image(image.format(tmp_path))
    target = parse_destination(destination.format(tmp_path)).locate(stem=source.stem, extension=".png")
    with pytest.raises(SegmindInputError, match=r"^destination: \S+cup.png is the image itself, .*Name another"):
        refuse_same_place(source, target)


@pytest.mark.parametrize(
    ("image", "uri"),
    [
        ("s3://b/in/cup.jpg", "s3://b/in/cup.png"),
        ("s3://b/in/cup.png", "s3://b/out/cup.png"),
        ("s3://b/cup.png", "s3://c/cup.png"),
        ("s3://b/cup.png", "gs://b/cup.png"),
        ("gs://b/cup.png", "gs://c/cup.png"),
        ("/b/cup.png", "/c/cup.png"),
        ("https://h.example/cup.png", "/h.example/cup.png"),
    ],
)
def test_a_result_at_another_place_than_its_image_is_allowed(image: str, uri: str) -> None:
    refuse_same_place(parse_image(image), parse_destination(uri).location)


@pytest.mark.parametrize("destination", ["https:/h/k?sig=hidden", "ftp://me:hidden@h/k", "s3:/me:hidden@h/k"])
def test_an_error_about_a_destination_shows_no_secret(destination: str) -> None:
    with pytest.raises(SegmindInputError) as caught:
        parse_destination(destination)
    assert "hidden" not in str(caught.value)
