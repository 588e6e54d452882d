from __future__ import annotations

import gc
import io
import os
import stat
from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.destination import store
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
