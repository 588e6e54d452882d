from __future__ import annotations

import gc
import io
import os
import stat
from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.storage.destinations import (
    check_destination,
    parse_destination,
    refuse_same_place,
    store,
)
from airflow_provider_segmind.storage.images import parse_image
from tests.s3_server import PNG, S3, aws_connection

LARGE = 17 << 20  # three parts of boto's 8 MiB


def put(
    uri: str, content: bytes = PNG, *, metadata: dict[str, str] | None = None, file: io.IOBase | None = None
) -> None:
    store(
        file or io.BytesIO(content),
        uri,
        content_type="image/png",
        metadata=metadata or {},
        aws_conn_id="aws_default",
    )


class BreaksAfter(io.BytesIO):
    """A file on a disk that fails after so many bytes."""

    def __init__(self, content: bytes, good: int) -> None:
        super().__init__(content)
        self.good = good

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.good:
            raise OSError(5, "Input/output error")
        return super().read(size)


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


def test_nothing_is_stored_at_a_prefix() -> None:
    with pytest.raises(SegmindInputError, match=r"destination is 's3://bucket/out/', a prefix"):
        put("s3://bucket/out/")


def test_s3_gets_the_file_from_its_start_with_type_and_metadata_and_leaves_it_open(s3: S3) -> None:
    file = io.BytesIO(PNG)
    file.seek(5)
    put(
        f"s3://{s3.bucket}/out/a b?#%20.png",
        file=file,
        metadata={"request-id": "r-1", "source": "s3://b/grün\n100%.png"},
    )
    found = s3.get("out/a b?#%20.png")
    assert (found["Body"], found["ContentType"]) == (PNG, "image/png")
    assert found["Metadata"] == {"request-id": "r-1", "source": "s3://b/gr%C3%BCn%0A100%.png"}
    assert not file.closed


def test_s3_metadata_is_cut_to_what_s3_takes_longest_first(s3: S3) -> None:
    put(f"s3://{s3.bucket}/a.png", metadata={"request-id": "r-1", "source": "ü" * 3000, "model": "m" * 100})
    metadata = s3.get("a.png")["Metadata"]
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
    assert (metadata["request-id"], metadata["model"]) == ("r-1", "m" * 100)
    assert metadata["source"].endswith("%C3...") or metadata["source"].endswith("%BC...")


def test_s3_metadata_with_names_too_long_loses_them_rather_than_the_file(s3: S3) -> None:
    put(f"s3://{s3.bucket}/a.png", metadata={"request-id": "r-1", "n" * 2100: "v"})
    assert s3.get("a.png")["Metadata"].get("request-id", "r-1") == "r-1"


def test_an_existing_object_is_replaced(s3: S3) -> None:
    s3.put("a.png", b"old")
    put(f"s3://{s3.bucket}/a.png")
    assert s3.get("a.png")["Body"] == PNG


def test_a_large_file_arrives_in_parts_and_whole(s3: S3) -> None:
    content = os.urandom(1 << 20) * 17
    put(f"s3://{s3.bucket}/large.png", content)
    found = s3.get("large.png")
    assert found["Body"] == content
    assert found["ETag"].endswith('-3"')


def test_a_multipart_upload_that_s3_breaks_off_leaves_nothing_behind(s3: S3, s3_through) -> None:
    broken = s3_through(lambda request: (500, {}, b"") if "partNumber=2" in request.path else None)
    with pytest.raises(SegmindStorageError, match=r"destination: s3://.*S3 failed .500"):
        put(f"s3://{s3.bucket}/large.png", bytes(LARGE))
    assert any("partNumber=1" in request.path for request in broken.requests)
    assert s3.unfinished_uploads() == []
    assert s3.keys() == []


def test_a_multipart_upload_whose_file_breaks_leaves_nothing_behind_and_keeps_the_old(s3: S3) -> None:
    s3.put("large.png", b"old")
    with pytest.raises(SegmindStorageError, match=r"own copy failed .*Input/output error"):
        put(f"s3://{s3.bucket}/large.png", file=BreaksAfter(bytes(LARGE), 9 << 20))
    assert s3.unfinished_uploads() == []
    assert s3.get("large.png")["Body"] == b"old"


def test_a_missing_bucket_is_the_users_to_mend(s3: S3) -> None:
    with pytest.raises(SegmindInputError, match=r"destination: s3://no-such-bucket-here/a.png: S3 has no such bucket"):
        put("s3://no-such-bucket-here/a.png")


def test_a_forbidden_write_is_the_users_to_mend(s3_through) -> None:
    denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    s3_through(lambda _: (403, {"Content-Type": "application/xml"}, denied))
    with pytest.raises(SegmindInputError, match=r"refused access.*AccessDenied.*allow the connection 'aws_default'"):
        put("s3://bucket/a.png")


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeout"])
def test_a_refusal_that_time_mends_may_be_tried_again(s3_through, code: str) -> None:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    s3_through(lambda _: (400, {"Content-Type": "application/xml"}, body))
    with pytest.raises(SegmindStorageError, match=code):
        put("s3://bucket/a.png")


def test_an_s3_that_is_down_may_be_tried_again_and_the_text_shows_no_secret(
    nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(nowhere.replace("//", "//user:hidden@")))
    with pytest.raises(SegmindStorageError, match=r"destination: s3://bucket/a.png: S3 is not reachable") as caught:
        put("s3://bucket/a.png")
    assert "hidden" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_connection_in_the_uri_is_the_one_used(s3: S3, monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(nowhere))
    monkeypatch.setenv("AIRFLOW_CONN_MINE", aws_connection(s3.url))
    put(f"s3://mine@{s3.bucket}/a.png")
    assert s3.keys() == ["a.png"]


def test_a_local_file_is_written_with_its_folders_and_the_usual_mode(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folders" / "a.png"
    put(target.as_uri())
    (tmp_path / "usual").touch()
    assert target.read_bytes() == PNG
    assert list(target.parent.iterdir()) == [target]
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_local_file_is_replaced_by_another_not_written_over(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    with target.open("rb") as reader:
        put(str(target))
        assert reader.read() == b"old"
    assert target.read_bytes() == PNG


def test_a_local_write_that_breaks_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    with pytest.raises(SegmindStorageError, match=f"destination: '{target}' cannot be written: Input/output error"):
        put(str(target), file=BreaksAfter(bytes(LARGE), 4 << 20))
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_longest_name_a_file_can_have_is_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".png")
    put(str(target))
    assert target.read_bytes() == PNG


def test_a_file_where_a_folder_should_be_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SegmindInputError, match=r"cannot be written.*give a path"):
        put(str(tmp_path / "file" / "a.png"))


def test_another_store_gets_the_file(memory_store) -> None:
    put("memory://results/a.png")
    assert memory_store.cat("/results/a.png") == PNG


def test_another_store_keeps_no_part_of_a_write_that_breaks(memory_store) -> None:
    with pytest.raises(SegmindStorageError, match=r"destination: memory://results/a.png: the store failed .OSError"):
        put("memory://results/a.png", file=BreaksAfter(bytes(LARGE), 4 << 20))
    assert memory_store.find("/results") == []


def test_a_store_that_publishes_on_close_gets_the_file_whole(bucket_store) -> None:
    put("gs://results/a.png", bytes(LARGE))
    assert bucket_store == {"results/a.png": bytes(LARGE)}


def test_a_store_that_publishes_on_close_never_publishes_a_part(bucket_store) -> None:
    with pytest.raises(SegmindStorageError, match=r"the store failed"):
        put("gs://results/a.png", file=BreaksAfter(bytes(LARGE), 4 << 20))
    gc.collect()  # fsspec's files close, and so publish, when they are collected
    assert bucket_store == {}


def test_a_store_without_its_provider_says_what_to_install() -> None:
    with pytest.raises(SegmindInputError, match=r"destination: abfs://box/a.png: .*install its provider"):
        put("abfs://box/a.png")


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
