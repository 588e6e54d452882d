"""Documents in S3: lost responses, conflicts, refusals, and stores that have no conditional writes."""

from __future__ import annotations

import httpx
import pytest

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.documents import DocumentStore, open_documents, parse_prefix
from tests.s3_server import S3, aws_connection

XML = {"Content-Type": "application/xml"}


def open_at(uri: str, **options: object) -> DocumentStore:
    return open_documents(parse_prefix("ledger", uri), aws_conn_id="aws_default", **options)


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
    assert len(puts) > 1
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
    assert open_at(f"s3://{s3.bucket}/").read("a.json").data == b"{}"


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


def ignore_conditions(s3: S3):
    def respond(request):
        if request.method != "PUT":
            return None
        kept = {
            name: value for name, value in request.headers.items() if name.lower() not in ("if-match", "if-none-match")
        }
        response = httpx.put(s3.url + request.path, headers=kept, content=request.body)
        return response.status_code, {"ETag": response.headers["ETag"]}, b""

    return respond


def test_a_store_that_ignores_conditions_is_noticed_at_the_first_write_and_warned_of(s3: S3, s3_through, caplog):
    s3_through(ignore_conditions(s3))
    documents = open_at(f"s3://{s3.bucket}/")
    version = documents.create("a.json", b"first")
    assert version == documents.read("a.json").version
    assert documents.create("a.json", b"other") is None
    assert documents.replace("a.json", b"second", "another version") is None
    assert documents.replace("a.json", b"second", version) == documents.read("a.json").version
    assert caplog.text.count("no conditional writes") == 1


def test_a_store_that_keeps_conditions_is_asked_once_in_a_process(s3: S3, s3_through):
    proxy = s3_through(lambda _: None)
    for name in ("a.json", "b.json"):
        open_at(f"s3://{s3.bucket}/").create(name, b"{}")
    assert [request.path.rpartition("/")[2] for request in proxy.requests] == ["a.json", "a.json", "b.json"]


def test_a_write_counts_though_the_store_fails_when_it_is_repeated(s3: S3, s3_through):
    puts = []

    def fail_from_the_second_on(request):
        if request.method == "PUT":
            puts.append(request)
            if len(puts) > 1:
                return 503, XML, b"<Error><Code>SlowDown</Code></Error>"
        return None

    s3_through(fail_from_the_second_on)
    documents = open_at(f"s3://{s3.bucket}/")
    assert documents.create("a.json", b"{}") == documents.read("a.json").version
    assert len(puts) > 1


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
    documents.write("a.json", b"{}")
    documents.read("a.json")
    sent = [(each.method, header in {name.lower() for name in each.headers}) for each in proxy.requests]
    assert sent == [("PUT", True), ("GET", True)]
