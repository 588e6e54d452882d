"""Arguments for the upload to S3, and the errors of stores that demand or refuse something."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files import s3 as s3_module
from airflow_provider_segmind.files.s3 import check_s3_extra_args
from tests.s3_server import S3

from .pictures import PNG
from .storing import put

LARGE = bytes(9 << 20)  # two parts
XML = {"Content-Type": "application/xml"}


def test_no_arguments_are_an_empty_dict() -> None:
    assert check_s3_extra_args(None) == check_s3_extra_args({}) == {}


def test_every_argument_that_is_accepted_is_one_of_boto3() -> None:
    from boto3.s3.transfer import S3Transfer

    assert set(S3Transfer.ALLOWED_UPLOAD_ARGS) >= s3_module._EXTRA_ARGS


def test_arguments_are_returned_as_they_are() -> None:
    arguments = {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "{{ var.value.key }}",
        "Expires": datetime(2030, 1, 1, tzinfo=UTC),
        "Metadata": {"team": "photos"},
        "Tagging": "team=photos&kind=result",
    }
    assert check_s3_extra_args(arguments) == arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("ACL=private", r"is 'ACL=private'. Give a dict"),
        ({"ServerSideEncription": "AES256"}, r"'ServerSideEncription'.*Did you mean 'ServerSideEncryption'\?"),
        ({"acl": "private"}, r"'acl'.*Did you mean 'ACL'\?"),
        ({"cache_control": "no-cache"}, r"Did you mean 'CacheControl'\?"),
        ({"zzz": "x"}, r"'zzz'.*Known are ACL, CacheControl,"),
        ({3: "x"}, r"'3', which is not an upload argument"),
        ({"ContentType": "image/png"}, r"ContentType, which is set by what the result is"),
        ({"ChecksumSHA256": "x"}, r"'ChecksumSHA256', which is not"),
        ({"Tagging": {"a": "b"}}, r"\['Tagging'\] is of type dict. Write 'key=value&other=value'"),
        ({"StorageClass": None}, r"\['StorageClass'\] is of type NoneType. Give a string"),
        ({"Metadata": "a=b"}, r"\['Metadata'\] is of type str. Give a dict"),
        ({"Metadata": {"a": 1}}, r"\['Metadata'\]\['a'\] must be an ASCII string"),
        ({"Metadata": {"a": "ü"}}, r"\['Metadata'\]\['a'\] must be an ASCII string"),
        ({"Metadata": {"Segmind-Model": "x"}}, r"has the name 'Segmind-Model', which is ours"),
        ({"Metadata": {"a": "b" * 1000}}, r"has 1001 bytes. At most 1000 fit"),
    ],
)
def test_an_unusable_argument_is_refused_with_a_remedy(arguments: object, words: str) -> None:
    with pytest.raises(SegmindInputError, match=f"^s3_extra_args.*{words}"):
        check_s3_extra_args(arguments)


def test_checking_the_arguments_does_not_import_boto3() -> None:
    code = (
        "import sys\n"
        "from airflow_provider_segmind.files.s3 import check_s3_extra_args\n"
        "check_s3_extra_args({'ACL': 'private'})\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('boto3', 'botocore', 's3transfer')])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


@pytest.mark.parametrize("content", [PNG, LARGE], ids=["in one request", "in parts"])
def test_every_object_is_written_with_the_arguments(s3: S3, content: bytes) -> None:
    arguments = {
        "ServerSideEncryption": "AES256",
        "CacheControl": "max-age=60",
        "StorageClass": "STANDARD_IA",
        "Tagging": "team=photos",
        "Metadata": {"team": "photos"},
    }
    put(f"s3://{s3.bucket}/a.png", content, s3_extra_args=arguments, derived=True)
    found = s3.get("a.png")
    assert (found["ServerSideEncryption"], found["CacheControl"]) == ("AES256", "max-age=60")
    assert (found["StorageClass"], found["ContentType"]) == ("STANDARD_IA", "image/png")
    assert found["Metadata"]["team"] == "photos"
    assert found["Metadata"]["segmind-request-id"] == "request-1"
    tags = s3.client.get_object_tagging(Bucket=s3.bucket, Key="a.png")["TagSet"]
    assert tags == [{"Key": "team", "Value": "photos"}]


DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/airflow-workers-of-the-photo-team/i-0123456789abcdef0 is not "
    "authorized to perform: s3:PutObject on resource: "
    f'"arn:aws:s3:::results/{"a-long-folder/" * 12}front.png" with an explicit deny in a resource-based policy'
)


def demand_encryption(request):
    """Refuse what is written without encryption, as a bucket policy does."""
    starts_object = (request.method == "PUT" and "partNumber" not in request.path) or request.path.endswith("?uploads")
    if starts_object and "x-amz-server-side-encryption" not in {name.lower() for name in request.headers}:
        return 403, XML, f"<Error><Code>AccessDenied</Code><Message>{DENIED}</Message></Error>".encode()
    return None


@pytest.mark.parametrize("content", [PNG, LARGE], ids=["in one request", "in parts"])
def test_a_bucket_that_demands_encryption_can_be_written_to(s3: S3, s3_through, content: bytes) -> None:
    s3_through(demand_encryption)
    put(f"s3://{s3.bucket}/a.png", content, s3_extra_args={"ServerSideEncryption": "AES256"})
    assert s3.get("a.png")["Body"] == content


def test_an_error_keeps_the_words_at_the_end_that_say_why(s3: S3, s3_through) -> None:
    s3_through(demand_encryption)
    with pytest.raises(SegmindInputError, match=r"with an explicit deny in a resource-based policy\)") as caught:
        put(f"s3://{s3.bucket}/a.png")
    assert "AccessDenied" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match"),
        (501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
        (400, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or a valid sha256 value"),
        (400, "InvalidRequest", "STREAMING-UNSIGNED-PAYLOAD-TRAILER is not supported"),
        (400, "BadRequest", "Unknown checksum algorithm CRC64NVME"),
        (411, "MissingContentLength", "You must provide the Content-Length HTTP header"),
        (403, "SignatureDoesNotMatch", "The request signature we calculated does not match"),
    ],
)
def test_a_store_that_refuses_botos_checksums_names_the_setting(
    s3: S3, s3_through, status: int, code: str, message: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    s3_through(lambda request: (status, XML, body) if request.method == "PUT" else None)
    with pytest.raises(SegmindInputError, match=rf"{code}.*request_checksum_calculation.*when_required") as caught:
        put(f"s3://{s3.bucket}/a.png")
    assert "AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in str(caught.value)


def test_a_store_that_refuses_checksums_and_conditions_names_the_setting(s3: S3, s3_through) -> None:
    body = b"<Error><Code>NotImplemented</Code></Error>"
    proxy = s3_through(lambda request: (501, XML, body) if request.method == "PUT" else None)
    with pytest.raises(SegmindInputError, match=r"NotImplemented.*when_required"):
        put(f"s3://{s3.bucket}/a.png", derived=True)
    conditions = ["If-None-Match" in request.headers for request in proxy.requests if request.method == "PUT"]
    assert conditions == [True, False]


def test_the_named_setting_leaves_the_checksums_out(s3: S3, s3_through, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.s3_server import aws_connection

    def refuse_checksums(request):
        if any(name.lower().startswith("x-amz-checksum") or name == "X-Amz-Trailer" for name in request.headers):
            return 501, XML, b"<Error><Code>NotImplemented</Code></Error>"
        return None

    proxy = s3_through(refuse_checksums)
    with pytest.raises(SegmindInputError, match=r"when_required"):
        put(f"s3://{s3.bucket}/a.png")
    config = {"request_checksum_calculation": "when_required"}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(proxy.url, config_kwargs=config))
    put(f"s3://{s3.bucket}/a.png")
    assert s3.get("a.png")["Body"] == PNG


def test_an_error_that_has_nothing_to_do_with_checksums_does_not_name_the_setting(s3_through) -> None:
    s3_through(lambda _: (400, XML, b"<Error><Code>InvalidArgument</Code><Message>Invalid tag</Message></Error>"))
    with pytest.raises(SegmindInputError, match=r"Invalid tag") as caught:
        put("s3://bucket/a.png")
    assert "checksum" not in str(caught.value)
