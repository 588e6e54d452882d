from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.destination import (
    Destination,
    check_destination,
    existing_names,
    find_stored,
    parse_destination,
    refuse_same_place,
)
from airflow_provider_segmind.files.naming import NameTemplate, ResultName
from airflow_provider_segmind.files.source import parse_image
from tests.s3_server import S3

from .storing import put


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


# ------------------------------------------------------------------ names of a template


def a_name(folder: str = "cups", stem: str = "cup", template: str = "{folder}/{stem}.{ext}") -> ResultName:
    return NameTemplate(template).name(folder=folder, stem=stem, index=0)


@pytest.fixture(params=["s3", "file", "object"])
def prefix(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """A prefix in a store of each kind."""
    if request.param == "s3":
        return parse_destination(f"s3://{request.getfixturevalue('s3').bucket}/out/")
    if request.param == "file":
        return parse_destination(f"{tmp_path}/out/")
    request.getfixturevalue("memory_store")
    return parse_destination("memory://results/out/")


def test_a_result_may_have_the_name_of_a_template_below_the_prefix() -> None:
    named = parse_destination("s3://mine@b/out/").named(a_name())
    location = named.locate(stem="not used", extension=".png")
    assert (location.uri, location.label) == ("s3://mine@b/out/cups/cup.png", "s3://b/out/cups/cup.png")
    assert (location.key, named.is_prefix, named.needs_stem) == ("out/cups/cup.png", True, False)
    assert parse_destination("/out/").named(a_name()).locate(stem="", extension="webp").uri == "/out/cups/cup.webp"


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp"])
def test_a_stored_result_is_found_at_the_name_of_a_template(prefix: Destination, extension: str) -> None:
    named = prefix.named(a_name())
    assert find_stored(named, None, aws_conn_id="aws_default") is None
    put(named.locate(stem="", extension=extension), derived=True)
    found = find_stored(named, None, aws_conn_id="aws_default")
    assert found is not None
    assert found.location.uri == f"{prefix.location.uri}cups/cup{extension}"
    assert found.provenance is not None


def test_the_images_below_a_prefix_are_named_by_one_listing(prefix: Destination) -> None:
    kept = {"cup.png", "cups/cup.jpg", "a/.b/.c.webp", "x/_segmind/d.png"}
    for name in (*kept, "_segmind/ledger/e.png", "notes.txt"):
        put(prefix.location.below(name))
    assert existing_names(prefix, aws_conn_id="aws_default") == kept


def test_below_a_prefix_that_is_not_there_yet_no_image_is(prefix: Destination) -> None:
    assert existing_names(prefix, aws_conn_id="aws_default") == set()


def test_an_object_that_was_not_listed_is_not_asked_for(s3_through, s3: S3) -> None:
    prefix = parse_destination(f"s3://{s3.bucket}/out/")
    put(prefix.location.below("cups/cup.jpg"))
    existing = existing_names(prefix, aws_conn_id="aws_default")
    through = s3_through(lambda _: None)
    found = find_stored(prefix.named(a_name(), existing), None, aws_conn_id="aws_default")
    assert found is not None
    assert find_stored(prefix.named(a_name(stem="mug"), existing), None, aws_conn_id="aws_default") is None
    assert [(request.method, request.path) for request in through.requests] == [
        ("HEAD", f"/{s3.bucket}/out/cups/cup.jpg")
    ]


def test_where_the_bucket_may_not_be_listed_each_object_is_asked_for(s3_through, s3: S3) -> None:
    denied = (403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
    s3_through(lambda request: denied if "list-type=2" in request.path else None)
    prefix = parse_destination(f"s3://{s3.bucket}/out/")
    put(prefix.location.below("cups/cup.png"))
    existing = existing_names(prefix, aws_conn_id="aws_default")
    assert existing is None
    assert find_stored(prefix.named(a_name(), existing), None, aws_conn_id="aws_default") is not None


def test_listing_the_results_in_a_missing_bucket_is_an_error(s3: S3) -> None:
    with pytest.raises(SegmindInputError, match=r"^destination: s3://no-such-bucket/out/: S3 has no such bucket"):
        existing_names(parse_destination("s3://no-such-bucket/out/"), aws_conn_id="aws_default")


def test_a_result_in_a_new_folder_of_another_store_is_stored(tmp_path: Path) -> None:
    from contextlib import contextmanager

    from fsspec.implementations.local import LocalFileSystem

    from .conftest import attached

    class Disk(LocalFileSystem):
        """As sftp, it makes no folder by itself."""

        protocol = "sftp"

        @classmethod
        def _strip_protocol(cls, path: str, **_: object) -> str:
            below = path.removeprefix(str(tmp_path)).removeprefix("sftp://host")
            return f"{tmp_path}/{below.strip('/')}"  # universal-pathlib 0.2.2 gives it without a slash in front

    with contextmanager(attached)("sftp", Disk()):
        named = parse_destination("sftp://host/out/").named(a_name())
        put(named.locate(stem="", extension=".png"), derived=True)
    assert (tmp_path / "out" / "cups" / "cup.png").is_file()


@pytest.mark.parametrize(
    ("prefix_text", "folder"), [("s3://b/" + "p" * 900 + "/", "f" * 200), ("/p" * 2000 + "/", "f" * 90)]
)
def test_a_name_that_is_too_long_below_its_prefix_is_refused(prefix_text: str, folder: str) -> None:
    with pytest.raises(SegmindInputError, match=r"^destination is .* is too long a name. Shorten name_template"):
        parse_destination(prefix_text).named(a_name(folder))
