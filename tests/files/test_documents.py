"""Small objects below a prefix: what is read back, and which of two writers wins."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

import httpx
import pytest

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files import documents as module
from airflow_provider_segmind.files.documents import DocumentStore, open_documents, parse_prefix
from tests.s3_server import S3, aws_connection

XML = {"Content-Type": "application/xml"}


def open_at(uri: str, **options: object) -> DocumentStore:
    return open_documents(parse_prefix("ledger", uri), aws_conn_id="aws_default", **options)


@pytest.fixture(params=["s3", "file", "memory"])
def prefix(request, tmp_path) -> str:
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('s3').bucket}/state/ledger/"
    if request.param == "file":
        return f"{tmp_path}/state/ledger/"
    request.getfixturevalue("memory_store")
    return "memory://store/ledger/"


@pytest.fixture
def documents(prefix: str) -> DocumentStore:
    return open_at(prefix)


@pytest.fixture
def _replaces_conditionally(request, prefix: str) -> None:
    """Skip for an S3 server that ignores ``If-Match``, as moto did before it knew it."""
    if prefix.startswith("s3:"):
        s3 = request.getfixturevalue("s3")
        if httpx.put(f"{s3.url}/{s3.bucket}/probe", headers={"If-Match": '"0"'}).is_success:
            pytest.skip("this S3 server ignores If-Match")


# ---------------------------------------------------------------------- any store


def test_a_document_that_was_never_written_is_absent(documents):
    assert documents.read("a.json") is None
    assert documents.names() == []


def test_a_document_is_read_as_it_was_created(documents):
    version = documents.create("a.json", b"{}")
    found = documents.read("a.json")
    assert (found.data, found.version) == (b"{}", version)


def test_a_document_that_is_there_is_not_created_again(documents):
    documents.create("a.json", b"first")
    assert documents.create("a.json", b"second") is None
    assert documents.read("a.json").data == b"first"


def test_a_document_is_replaced_by_whoever_has_read_its_present_version(documents):
    first = documents.create("a.json", b"first")
    second = documents.replace("a.json", b"second", first)
    assert second == documents.read("a.json").version != first


@pytest.mark.usefixtures("_replaces_conditionally")
def test_a_document_that_has_changed_since_it_was_read_is_not_replaced(documents):
    first = documents.create("a.json", b"first")
    documents.write("a.json", b"second")
    assert documents.replace("a.json", b"third", first) is None
    assert documents.read("a.json").data == b"second"


@pytest.mark.usefixtures("_replaces_conditionally")
def test_a_document_that_was_deleted_since_it_was_read_is_not_replaced(documents):
    first = documents.create("a.json", b"first")
    documents.delete("a.json")
    assert documents.replace("a.json", b"second", first) is None
    assert documents.read("a.json") is None


def test_an_unconditional_write_returns_the_version_that_is_then_read(documents):
    documents.create("a.json", b"first")
    version = documents.write("a.json", b"second")
    assert version == documents.read("a.json").version


def test_deleting_what_is_not_there_is_no_error(documents):
    documents.delete("a.json")


def test_the_names_below_a_prefix_are_sorted_and_do_not_show_what_a_store_needs_for_itself(documents):
    for name in ("b.json", "runs/x/2.json", "runs/x/1.json", "a.json"):
        version = documents.create(name, b"first")
        documents.replace(name, b"second", version)
    assert documents.names() == ["a.json", "b.json", "runs/x/1.json", "runs/x/2.json"]
    assert documents.names("runs/x/") == ["runs/x/1.json", "runs/x/2.json"]
    assert documents.names("b") == ["b.json"]


def test_a_store_does_not_see_the_documents_of_another_prefix(prefix):
    open_at(f"{prefix}a/").create("1.json", b"{}")
    assert open_at(f"{prefix}b/").read("1.json") is None
    assert open_at(f"{prefix}b/").names() == []


def test_the_label_of_a_document_names_it_in_full(prefix):
    assert open_at(prefix).label_of("a.json") == f"{prefix}a.json"


@pytest.mark.parametrize("prefix", ["s3", "file"], indirect=True)
def test_of_many_that_create_a_document_at_once_one_succeeds(prefix):
    created = at_once(8, lambda number: open_at(prefix).create("a.json", b"%d" % number))
    assert sum(version is not None for version in created) == 1
    assert open_at(prefix).read("a.json").data == b"%d" % next(i for i, version in enumerate(created) if version)


@pytest.mark.usefixtures("_replaces_conditionally")
@pytest.mark.parametrize("prefix", ["s3", "file"], indirect=True)
def test_of_many_that_replace_a_version_at_once_one_succeeds(prefix):
    first = open_at(prefix).create("a.json", b"first")
    replaced = at_once(8, lambda number: open_at(prefix).replace("a.json", b"%d" % number, first))
    assert sum(version is not None for version in replaced) == 1
    assert open_at(prefix).read("a.json").data == b"%d" % next(i for i, version in enumerate(replaced) if version)


def at_once(count: int, act: Callable[[int], object]) -> list[object]:
    together, results = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        together.wait()
        results[number] = act(number)

    threads = [threading.Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# ---------------------------------------------------------------------- prefixes


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("s3://bucket/a", "s3://bucket/a/"),
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/a/", "s3://bucket/a/"),
        ("/disk/a", "/disk/a/"),
        ("file:///disk/a", "/disk/a/"),
        ("memory://a/b", "memory://a/b/"),
    ],
)
def test_a_slash_that_is_missing_at_the_end_of_a_prefix_is_added(given, uri):
    location = parse_prefix("ledger", given)
    assert location.uri == uri
    assert location.label.endswith("/")


def test_documents_in_a_bucket_without_a_prefix_have_their_names_as_keys(s3: S3):
    open_at(f"s3://{s3.bucket}").create("a.json", b"{}")
    assert s3.keys() == ["a.json"]
    assert open_at(f"s3://{s3.bucket}").names() == ["a.json"]


@pytest.mark.parametrize(
    ("given", "words"),
    [("https://host/ledger/", "cannot be written to"), ("ledger/", "a relative path"), ("s3:///x/", "no bucket")],
)
def test_a_prefix_that_cannot_hold_documents_is_refused(given, words):
    with pytest.raises(SegmindInputError, match=f"^ledger is .*{words}"):
        parse_prefix("ledger", given)


# ---------------------------------------------------------------------- S3


def put_behind(s3: S3, request) -> None:
    """Let S3 take a request whose response then gets lost."""
    httpx.request(request.method, s3.url + request.path, headers=request.headers, content=request.body)


@pytest.mark.parametrize("act", ["create", "replace"])
def test_a_write_whose_response_was_lost_and_that_boto_repeats_succeeds(s3: S3, s3_through, monkeypatch, act):
    name = "a.json"
    version = open_at(f"s3://{s3.bucket}/").create(name, b"first") if act == "replace" else None
    puts = []

    def lose_first_response(request):
        if request.method == "PUT":
            puts.append(request)
            if len(puts) == 1:
                put_behind(s3, request)
                return 500, XML, b"<Error><Code>InternalError</Code></Error>"
        return None

    proxy = s3_through(lose_first_response)
    retries = {"retries": {"mode": "standard", "total_max_attempts": 2}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(proxy.url, config_kwargs=retries))
    documents = open_at(f"s3://{s3.bucket}/")
    written = documents.create(name, b"ours") if act == "create" else documents.replace(name, b"ours", version)
    assert len(puts) == 2
    assert written == documents.read(name).version
    assert documents.read(name).data == b"ours"


def test_a_conflict_with_a_write_under_way_is_repeated(s3: S3, s3_through):
    puts = []

    def conflict_once(request):
        if request.method == "PUT":
            puts.append(request)
            if len(puts) == 1:
                return 409, XML, b"<Error><Code>ConditionalRequestConflict</Code></Error>"
        return None

    s3_through(conflict_once)
    assert open_at(f"s3://{s3.bucket}/").create("a.json", b"{}")
    assert len(puts) == 2


def test_a_403_does_not_mean_that_a_document_is_absent(s3_through):
    s3_through(lambda request: (403, XML, b"<Error><Code>AccessDenied</Code></Error>"))
    with pytest.raises(SegmindInputError, match=r"^ledger: s3://bucket/a.json: S3 refused access"):
        open_at("s3://bucket/").read("a.json")


def test_a_bucket_that_is_missing_is_not_an_absent_document(s3: S3):
    with pytest.raises(SegmindInputError, match="no such bucket"):
        open_at("s3://none-of-that-name/").read("a.json")


def test_an_s3_that_is_down_is_an_error_that_a_retry_may_end(s3_through):
    s3_through(lambda request: (503, XML, b"<Error><Code>SlowDown</Code></Error>"))
    documents = open_at("s3://bucket/")
    for act in (documents.read, lambda name: documents.create(name, b"{}"), documents.names):
        with pytest.raises(SegmindStorageError, match=r"^ledger: s3://bucket/a.json: S3 failed"):
            act("a.json")


def refuse_conditions(request):
    if request.method == "PUT" and {"if-match", "if-none-match"} & {name.lower() for name in request.headers}:
        return 501, XML, b"<Error><Code>NotImplemented</Code></Error>"
    return None


def test_a_store_without_conditional_writes_is_warned_of_once_and_used_all_the_same(s3: S3, s3_through, caplog):
    s3_through(refuse_conditions)
    for name in ("a.json", "b.json"):
        documents = open_at(f"s3://{s3.bucket}/")
        version = documents.create(name, b"first")
        assert documents.create(name, b"other") is None
        assert documents.replace(name, b"second", "another version") is None
        assert documents.replace(name, b"second", version) == documents.read(name).version
    assert caplog.text.count("no conditional writes") == 1


def test_a_store_without_conditional_writes_tells_who_was_overwritten(s3: S3, s3_through):
    def overwrite(request):
        refused = refuse_conditions(request)
        if request.method == "PUT" and refused is None:
            put_behind(s3, request)
            s3.put("a.json", b"of another process")
            return 200, {"ETag": '"of-ours"'}, b""
        return refused

    s3_through(overwrite)
    assert open_at(f"s3://{s3.bucket}/").create("a.json", b"ours") is None


def test_documents_are_written_with_the_upload_arguments_but_those_for_pictures(s3: S3):
    arguments = {"ServerSideEncryption": "AES256", "Tagging": "team=photos", "StorageClass": "GLACIER"}
    open_at(f"s3://{s3.bucket}/", s3_extra_args=arguments).create("a.json", b"{}")
    found = s3.get("a.json")
    assert (found["ServerSideEncryption"], found["ContentType"]) == ("AES256", "application/json")
    assert "StorageClass" not in found
    assert s3.client.get_object_tagging(Bucket=s3.bucket, Key="a.json")["TagSet"] == [
        {"Key": "team", "Value": "photos"}
    ]


def test_a_document_that_is_encrypted_with_a_key_of_ones_own_is_read_with_it(s3: S3, s3_through):
    header = "x-amz-server-side-encryption-customer-key"
    proxy = s3_through(lambda _: None)
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "0123456789abcdef0123456789abcdef"}
    documents = open_at(f"s3://{s3.bucket}/", s3_extra_args={**key, "ACL": "private"})
    documents.create("a.json", b"{}")
    documents.read("a.json")
    sent = [(each.method, header in {name.lower() for name in each.headers}) for each in proxy.requests]
    assert sent == [("PUT", True), ("GET", True)]


# ---------------------------------------------------------------------- local files


def test_a_document_appears_whole_where_a_disk_has_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    documents = open_at(f"{tmp_path}/")
    assert documents.create("a.json", b"first")
    assert documents.create("a.json", b"second") is None
    assert documents.read("a.json").data == b"first"


def test_a_link_whose_response_was_lost_counts_as_made(tmp_path, monkeypatch):
    link = os.link

    def lose_response(*arguments: object) -> None:
        link(*arguments)
        link(*arguments)

    monkeypatch.setattr(os, "link", lose_response)
    assert open_at(f"{tmp_path}/").create("a.json", b"ours")


def test_a_process_that_dies_while_it_writes_leaves_no_document(tmp_path, monkeypatch):
    class DiedError(BaseException):
        pass

    def die(*_: object) -> None:
        raise DiedError

    documents = open_at(f"{tmp_path}/")
    version = documents.create("b.json", b"before")
    monkeypatch.setattr(module.os, "fsync", die)
    with pytest.raises(DiedError):
        documents.create("a.json", b"{}")
    with pytest.raises(DiedError):
        documents.replace("b.json", b"after", version)
    assert documents.names() == ["b.json"]
    assert documents.read("b.json").data == b"before"


def test_a_file_where_the_folder_should_be_is_an_error_and_not_an_absent_document(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    documents = open_at(f"{tmp_path}/file/")
    with pytest.raises(SegmindInputError, match=r"^ledger: .*/file/a.json cannot be read or written: Not a directory"):
        documents.read("a.json")
    with pytest.raises(SegmindInputError, match="cannot be read or written"):
        documents.create("a.json", b"{}")


def test_a_disk_that_fails_is_an_error_that_a_retry_may_end(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.Path, "read_bytes", fail)
    with pytest.raises(SegmindStorageError, match="Input/output error"):
        open_at(f"{tmp_path}/").read("a.json")


# ---------------------------------------------------------------------- other stores


def test_a_store_that_fails_is_an_error_that_names_the_document(memory_store, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(type(memory_store), "cat_file", fail)
    with pytest.raises(SegmindStorageError, match=r"^ledger: memory://store/a.json: the store failed"):
        open_at("memory://store/").read("a.json")


def test_a_store_with_folders_gets_those_that_are_missing(memory_store, monkeypatch):
    pipe, folders = type(memory_store).pipe_file, []

    def pipe_into_folder(self: object, path: str, *arguments: object, **options: object) -> object:
        if path.rpartition("/")[0] not in folders:
            raise FileNotFoundError(path)
        return pipe(self, path, *arguments, **options)

    monkeypatch.setattr(type(memory_store), "pipe_file", pipe_into_folder)
    monkeypatch.setattr(type(memory_store), "makedirs", lambda self, path, exist_ok: folders.append(path))
    assert open_at("memory://store/ledger/").create("a.json", b"{}")
