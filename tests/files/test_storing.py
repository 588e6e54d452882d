from __future__ import annotations

import gc
import io
import os
import stat
import threading
import tracemalloc
from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.provenance import sidecar_of
from tests.s3_server import S3, aws_connection

from .pictures import PNG
from .storing import put

LARGE = 17 << 20  # three parts of boto's 8 MiB


class BreaksAfter(io.BytesIO):
    """A file on a disk that fails after some bytes."""

    def __init__(self, content: bytes, good: int) -> None:
        super().__init__(content)
        self.good = good

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.good:
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_a_file_is_stored_in_s3_from_its_start_with_its_media_type_and_is_left_open(s3: S3) -> None:
    file = io.BytesIO(PNG)
    file.seek(5)
    put(f"s3://{s3.bucket}/out/a b?#%20.png", file=file)
    found = s3.get("out/a b?#%20.png")
    assert (found["Body"], found["ContentType"]) == (PNG, "image/png")
    assert not file.closed


def test_a_file_is_stored_under_a_key_that_ends_in_a_space(s3: S3) -> None:
    put(f"s3://{s3.bucket}/a.png ")
    assert s3.keys() == ["a.png "]


def test_an_existing_object_is_replaced(s3: S3) -> None:
    s3.put("a.png", b"old")
    put(f"s3://{s3.bucket}/a.png")
    assert s3.get("a.png")["Body"] == PNG


def test_a_large_file_is_stored_whole_in_parts(s3: S3) -> None:
    content = os.urandom(1 << 20) * 17
    put(f"s3://{s3.bucket}/large.png", content)
    found = s3.get("large.png")
    assert found["Body"] == content
    assert found["ETag"].endswith('-3"')


def test_a_multipart_upload_that_fails_in_s3_leaves_nothing_behind(s3: S3, s3_through) -> None:
    broken = s3_through(lambda request: (500, {}, b"") if "partNumber=2" in request.path else None)
    with pytest.raises(SegmindStorageError, match=r"destination: s3://.*S3 failed .500"):
        put(f"s3://{s3.bucket}/large.png", bytes(LARGE))
    assert any("partNumber=1" in request.path for request in broken.requests)
    assert s3.unfinished_uploads() == []
    assert s3.keys() == []


def test_a_multipart_upload_whose_file_cannot_be_read_leaves_the_old_object(s3: S3) -> None:
    s3.put("large.png", b"old")
    with pytest.raises(SegmindStorageError, match=r"temporary file cannot be read .*Input/output error"):
        put(f"s3://{s3.bucket}/large.png", file=BreaksAfter(bytes(LARGE), 9 << 20))
    assert s3.unfinished_uploads() == []
    assert s3.get("large.png")["Body"] == b"old"


def test_a_missing_bucket_is_an_input_error(s3: S3) -> None:
    with pytest.raises(SegmindInputError, match=r"destination: s3://no-such-bucket-here/a.png: S3 has no such bucket"):
        put("s3://no-such-bucket-here/a.png")


def test_a_forbidden_write_is_an_input_error(s3_through) -> None:
    denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    s3_through(lambda _: (403, {"Content-Type": "application/xml"}, denied))
    with pytest.raises(SegmindInputError, match=r"refused access.*AccessDenied.*Allow the connection 'aws_default'"):
        put("s3://bucket/a.png")


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeout"])
def test_a_refusal_that_a_retry_may_end_is_a_storage_error(s3_through, code: str) -> None:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    s3_through(lambda _: (400, {"Content-Type": "application/xml"}, body))
    with pytest.raises(SegmindStorageError, match=code):
        put("s3://bucket/a.png")


def test_an_s3_that_is_down_is_a_storage_error_that_shows_no_secret(
    nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(nowhere.replace("//", "//user:hidden@")))
    with pytest.raises(SegmindStorageError, match=r"destination: s3://bucket/a.png: S3 cannot be reached") as caught:
        put("s3://bucket/a.png")
    assert "hidden" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_connection_in_the_uri_takes_precedence(s3: S3, monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(nowhere))
    monkeypatch.setenv("AIRFLOW_CONN_MINE", aws_connection(s3.url))
    put(f"s3://mine@{s3.bucket}/a.png")
    assert s3.keys() == ["a.png"]


def test_a_local_file_gets_its_folders_and_the_usual_mode_and_a_hidden_file_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folders" / "a.png"
    put(target.as_uri())
    (tmp_path / "usual").touch()
    assert target.read_bytes() == PNG
    assert {path.name for path in target.parent.iterdir()} == {"a.png", ".a.png.segmind.json"}
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_reader_of_a_local_file_that_is_replaced_keeps_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    with target.open("rb") as reader:
        put(str(target))
        assert reader.read() == b"old"
    assert target.read_bytes() == PNG


def test_a_local_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    with pytest.raises(SegmindStorageError, match=f"destination: '{target}' cannot be written: Input/output error"):
        put(str(target), file=BreaksAfter(bytes(LARGE), 4 << 20))
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_with_the_longest_possible_name_is_stored_with_its_hidden_file(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".png")
    put(str(target))
    assert target.read_bytes() == PNG
    assert Path(sidecar_of(str(target))).is_file()


def test_a_file_where_a_folder_should_be_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SegmindInputError, match=r"cannot be written.*Give a path"):
        put(str(tmp_path / "file" / "a.png"))


def test_a_file_is_stored_in_another_object_store(memory_store) -> None:
    put("memory://results/a.png")
    assert memory_store.cat("/results/a.png") == PNG


def test_another_store_keeps_no_part_of_a_write_that_fails(memory_store) -> None:
    with pytest.raises(SegmindStorageError, match=r"destination: memory://results/a.png: the store failed .OSError"):
        put("memory://results/a.png", file=BreaksAfter(bytes(LARGE), 4 << 20))
    assert memory_store.find("/results") == []


def test_a_store_that_publishes_on_close_gets_the_file_whole(bucket_store) -> None:
    put("gs://results/a.png", bytes(LARGE))
    assert bucket_store["results/a.png"] == bytes(LARGE)


def test_a_store_that_publishes_on_close_never_publishes_a_part(bucket_store) -> None:
    with pytest.raises(SegmindStorageError, match=r"the store failed"):
        put("gs://results/a.png", file=BreaksAfter(bytes(LARGE), 4 << 20))
    gc.collect()  # fsspec's files close, and so publish, when they are collected
    assert bucket_store == {}


def test_a_destination_in_a_store_whose_provider_is_missing_says_what_to_install() -> None:
    with pytest.raises(SegmindInputError, match=r"destination: abfs://box/a.png: .*install the store's provider"):
        put("abfs://box/a.png")


@pytest.mark.parametrize(
    ("name", "content_type", "expected"),
    [
        ("a.jpg", "image/png", ".png"),
        ("a.png", "image/webp", ".webp"),
        ("a.jpg", "image/jpeg", None),
        ("a.JPEG", "image/jpeg", None),
        ("a.tiff", "image/tiff", None),
        ("a", "image/png", None),
        ("a.final", "x/unknown", None),
    ],
)
def test_an_extension_that_does_not_fit_the_content_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, content_type: str, expected: str | None
) -> None:
    put(str(tmp_path / name), content_type=content_type)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    if expected is None:
        assert warnings == []
    else:
        assert [
            f"{tmp_path / name} has the extension" in text and f"Name it {expected}." in text for text in warnings
        ] == [True]


def test_storing_a_large_file_in_s3_takes_the_memory_of_a_few_parts(
    serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    many_in_flight = threading.Event()
    parts: list[str] = []

    def answer(request) -> tuple[int, dict[str, str], bytes]:
        if "partNumber=" in request.path:
            parts.append(request.path)
            if len(parts) == 9:
                many_in_flight.set()
            many_in_flight.wait(0.2)  # a slow S3, so that boto3 holds as many parts as it is allowed to
        xml = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
        return 200, {"ETag": '"x"', "Content-Type": "application/xml"}, xml if request.method == "POST" else b""

    s3 = serve(answer, keep_bodies=False)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(s3.url))
    put("s3://bucket/small.png")  # so that imports and the client do not count
    with (tmp_path / "large").open("w+b") as file:
        file.truncate(120 << 20)
        tracemalloc.start()
        try:
            put("s3://bucket/large.png", file=file)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert len(parts) == 15
    assert peak < 64 << 20
