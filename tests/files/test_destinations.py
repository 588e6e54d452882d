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
    ],
)
def test_a_destination_is_recognised(destination: object, kind: str, uri: str, is_prefix: bool) -> None:
    parsed = parse_destination(destination)
    assert (parsed.kind, parsed.uri, parsed.is_prefix) == (kind, uri, is_prefix)


def test_an_object_storage_path_keeps_its_connection() -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    assert parse_destination(ObjectStoragePath("s3://bucket/a.png", conn_id="mine")).uri == "s3://mine@bucket/a.png"


@pytest.mark.parametrize("extension", [".png", "png"])
def test_a_prefix_gets_the_sources_stem_and_the_results_extension(extension: str) -> None:
    assert parse_destination("s3://b/out/").locate(stem="photo", extension=extension) == "s3://b/out/photo.png"
    assert parse_destination("/out/").locate(stem="a/b", extension=extension) == "/out/a_b.png"


def test_a_full_name_stays_as_it_is() -> None:
    assert parse_destination("s3://b/out/a.jpg").locate(stem="photo", extension=".png") == "s3://b/out/a.jpg"


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ("", "rendered to nothing"),
        ("None", "rendered to nothing"),
        (None, "is None: .*XCom, that gave nothing"),
        (3, "is 3, a int: give a string or a path"),
        ("s3://bucket", "has no key"),
        ("s3:///key.png", "names no bucket"),
        ("s3:/bucket/key.png", "two slashes"),
        ("https://h.example/a.png", "cannot be written to"),
        ("ftp://h.example/a.png", "cannot be written to"),
        ("file://out/a.png", "three slashes"),
        ("~nosuch/out.png", "knows no such home"),
        ("x" * 5000, "5000 characters"),
        (f"/out/{'é' * 150}.png", "nor a name in it"),
        ("\ud800.png", "is no UTF-8"),
    ],
)
def test_a_bad_destination_is_refused_with_the_parameter_and_a_remedy(destination: object, words: str) -> None:
    with pytest.raises(SegmindInputError, match=f"^destination.*{words}"):
        parse_destination(destination)


def test_a_local_folder_without_a_trailing_slash_is_refused(tmp_path: Path) -> None:
    for folder in (str(tmp_path), tmp_path, tmp_path.as_uri()):
        with pytest.raises(SegmindInputError, match=f"destination is '{tmp_path}', a folder: write '{tmp_path}/'"):
            parse_destination(folder)


def check(destination: object) -> None:
    check_destination(parse_destination(destination), aws_conn_id="aws_default")


@pytest.mark.parametrize("destination", ["abfs://box/a.png", "sftp://box/out/"])
def test_a_store_without_its_provider_is_found_out_beforehand(destination: str) -> None:
    with pytest.raises(SegmindInputError, match=rf"destination: {destination}: .*install its provider"):
        check(destination)


def test_a_look_at_a_destination_writes_nothing(s3: S3, memory_store, tmp_path: Path) -> None:
    for place in (f"s3://{s3.bucket}", "memory://results", f"{tmp_path}/new"):
        check(f"{place}/a.png")
        check(f"{place}/out/")
    assert (s3.keys(), memory_store.find("/results"), list(tmp_path.iterdir())) == ([], [], [])


@pytest.mark.parametrize("destination", ["in_the_way/a.png", "in_the_way/out/", "dangling/out/a.png"])
def test_a_local_path_on_which_no_folder_can_be_made_is_found_out_beforehand(tmp_path: Path, destination: str) -> None:
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
def test_an_image_is_not_replaced_by_its_own_result(tmp_path: Path, image: str, destination: str) -> None:
    (tmp_path / "link.png").symlink_to("cup.png")
    (tmp_path / "linked").symlink_to(".")
    source = parse_image(image.format(tmp_path))
    uri = parse_destination(destination.format(tmp_path)).locate(stem=source.stem, extension=".png")
    with pytest.raises(SegmindInputError, match=r"^destination: \S+cup.png is the image itself: name another"):
        refuse_same_place(source, uri)


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
def test_a_result_elsewhere_is_no_such_case(image: str, uri: str) -> None:
    refuse_same_place(parse_image(image), uri)


@pytest.mark.parametrize("destination", ["https:/h/k?sig=hidden", "ftp://me:hidden@h/k", "s3:/me:hidden@h/k"])
def test_an_error_shows_no_secret(destination: str) -> None:
    with pytest.raises(SegmindInputError) as caught:
        parse_destination(destination)
    assert "hidden" not in str(caught.value)
