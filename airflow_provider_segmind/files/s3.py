"""S3 for images and results: upload arguments, the head of an object, presigned URLs, uploads, clear errors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindMissingFileError, SegmindStorageError
from airflow_provider_segmind.files.location import Location
from airflow_provider_segmind.files.s3_client import SIGNING_REGION, s3_hook, write_headers

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

MAX_PRESIGNED_SECONDS = 7 * 24 * 3600  # SigV4 allows no more

# Errors with a 4xx status that a retry may end.
_TEMPORARY = frozenset(
    {"RequestTimeout", "ExpiredToken", "NoSuchUpload", "BadDigest", "IncompleteBody", "OperationAborted"}
)
# How stores other than AWS refuse the checksums that boto3 sends since 1.36: a code of its own, or words in the text.
_CHECKSUM_CODES = frozenset({"XAmzContentSHA256Mismatch", "NotImplemented", "MissingContentLength"})
_CHECKSUM_WORDS = re.compile(r"checksum|content-sha256|streaming-|trailer|aws-chunked|content-encoding", re.IGNORECASE)
_CHECKSUM_REMEDY = (
    "If this S3-compatible store refuses the checksums that boto3 adds to an upload, put "
    '{"config_kwargs": {"request_checksum_calculation": "when_required"}} into the extra of the connection, or set '
    "AWS_REQUEST_CHECKSUM_CALCULATION=when_required."
)
# The upload arguments of boto3 that do not depend on the file. They stand here because boto3 is not imported while a
# DAG file is parsed.
# fmt: off
_EXTRA_ARGS = frozenset((
    "ACL", "CacheControl", "ChecksumAlgorithm", "ContentDisposition", "ContentEncoding", "ContentLanguage",
    "ExpectedBucketOwner", "Expires", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP", "Metadata",
    "ObjectLockLegalHoldStatus", "ObjectLockMode", "ObjectLockRetainUntilDate", "RequestPayer",
    "SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5", "SSEKMSEncryptionContext", "SSEKMSKeyId",
    "ServerSideEncryption", "StorageClass", "Tagging", "WebsiteRedirectLocation",
))
# fmt: on
_MAX_USER_METADATA = 1000  # leaves room for ours
_REASON = 1000
"""Characters of S3's own words that an error keeps: an explicit deny and its policy are named at their very end."""


def check_s3_extra_args(value: object) -> dict[str, Any]:
    """
    Check the upload arguments for S3 without importing boto3.

    ``Metadata`` is stored together with our own, whose names begin with ``segmind-``. ``ContentType`` and checksum
    values are refused, as they depend on the file.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SegmindInputError(f"s3_extra_args is {redact(repr(value), limit=60)}. Give a dict of boto3's names.")
    for name, argument in value.items():
        if fault := _fault_of(name, argument):
            raise SegmindInputError(f"s3_extra_args{fault}")
    return dict(value)


def _fault_of(name: object, argument: Any) -> str | None:
    """Return what is wrong with an upload argument, as the end of an error."""
    if name == "ContentType":
        return " names ContentType, which is set by what the result is. Leave it out."
    if name not in _EXTRA_ARGS:
        lower = {known.lower(): known for known in _EXTRA_ARGS}
        near = get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
        hint = f"Did you mean {lower[near[0]]!r}?" if near else f"Known are {', '.join(sorted(_EXTRA_ARGS))}."
        return f" names {redact(name, limit=60)!r}, which is not an upload argument of boto3. {hint}"
    if not isinstance(argument, Mapping if name == "Metadata" else str | datetime):
        hint = {"Metadata": "Give a dict.", "Tagging": "Write 'key=value&other=value'."}.get(name, "Give a string.")
        return f"[{name!r}] is of type {type(argument).__name__}. {hint}"
    if not isinstance(argument, Mapping):
        return None
    for key, value in argument.items():
        if not (isinstance(key, str) and isinstance(value, str) and f"{key}{value}".isascii()):
            return f"['Metadata'][{redact(key, limit=60)!r}] must be an ASCII string."
        if key.lower().startswith("segmind-"):
            return f"['Metadata'] has the name {key!r}, which is ours. Rename it."
    size = sum(len(key) + len(value) for key, value in argument.items())
    return f"['Metadata'] has {size} bytes. At most {_MAX_USER_METADATA} fit." if size > _MAX_USER_METADATA else None


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """The first bytes of an object, its ETag (where a store has none, when it was modified), and its region."""

    data: bytes = field(repr=False)
    version: str
    region: str | None


def read_head(location: Location, aws_conn_id: str | None, length: int) -> ObjectHead:
    """
    Read the first bytes of an object with one GET.

    Unlike a HEAD it also shows that an object is archived, and S3 says in words why it refuses.
    """
    with s3_errors(location, aws_conn_id):
        client = s3_hook(location, aws_conn_id).get_conn()
        found = client.get_object(Bucket=location.bucket, Key=location.key, Range=f"bytes=0-{length - 1}")
        with closing(found["Body"]) as body:
            data = body.read(length)  # a store that ignores ranges sends the whole object
        if not data:
            raise SegmindInputError(f"{location.where} is empty. Upload it again.")
        region = found["ResponseMetadata"][SIGNING_REGION] or client.meta.region_name
        return ObjectHead(data, str(found.get("ETag") or found.get("LastModified")), region)


def presign(location: Location, *, aws_conn_id: str | None, valid_for: float, region: str | None = None) -> str:
    """
    Return a GET URL, signed with SigV4, for an object that is there, is not empty and can be read.

    A URL that is signed with temporary credentials, such as a role's, ends with them if they end first.

    :param valid_for: seconds, rounded up and at most 7 days
    :param region: the bucket's, where :func:`read_head` has told it; without it, S3 is asked first
    """
    if location.kind != "s3" or not location.key or location.key.endswith("/"):
        raise SegmindInputError(f"{location.where} is not the URI of an object. Write s3://bucket/key.")
    region = region or read_head(location, aws_conn_id, 1).region
    seconds = min(max(math.ceil(min(valid_for, MAX_PRESIGNED_SECONDS)), 1), MAX_PRESIGNED_SECONDS)
    with s3_errors(location, aws_conn_id):
        client = s3_hook(location, aws_conn_id).get_conn()
        if region != client.meta.region_name:
            client = s3_hook(location, aws_conn_id, region=region).get_conn()
        params = {"Bucket": location.bucket, "Key": location.key}
        url: str = client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)
    return url


class _LeftOpen:
    """A file that an upload cannot close, as boto's does: its owner may need it again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """Do nothing."""


def upload(hook: S3Hook, file: BinaryIO, location: Location, headers: Mapping[str, str]) -> None:
    """
    Write an object in one request, or in parts where it is large, and leave the file open.

    :param headers: of the request that makes the object appear: a condition on what is there
    """
    config = hook.transfer_config
    config.use_threads = False  # one part at a time: boto3's threads keep ten parts in memory, and lack our headers
    config.preferred_transfer_client = "classic"  # the only one that lets a request have headers of our own
    try:
        with write_headers(headers):
            hook.load_file_obj(_LeftOpen(file), key=location.key, bucket_name=location.bucket, replace=True)
    except ValueError as error:
        raise SegmindInputError(f"{location.where}: this boto3 refuses an argument ({redact(error)}).") from error


@contextmanager
def s3_errors(location: Location, aws_conn_id: str | None) -> Iterator[None]:
    """Convert what boto raises into what the user should do about it: an input error, or one that a retry may end."""
    from boto3.exceptions import Boto3Error  # type: ignore[import-untyped]
    from botocore import exceptions as boto  # type: ignore[import-untyped]

    conn_id = location.conn_id or aws_conn_id
    connection = f"the connection {conn_id!r}" if conn_id else "boto's default credentials"
    try:
        yield
    except boto.ClientError as error:
        raise _client_error(error, location, connection) from error
    except (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.ProfileNotFound,
        boto.NoRegionError,
        boto.InvalidRegionError,
        boto.ParamValidationError,
    ) as error:
        raise SegmindInputError(f"{location.where}: {_reason(error)}. Check the name and {connection}.") from error
    except (boto.BotoCoreError, Boto3Error) as error:
        raise SegmindStorageError(
            f"{location.where}: S3 cannot be reached ({_reason(error)}). Try again later, or check the endpoint of "
            f"{connection}."
        ) from error
    except OSError as error:  # from the file on the worker
        raise SegmindStorageError(
            f"{location.where}: the worker's temporary file cannot be read ({_reason(error)})."
        ) from error


def error_code(error: Any) -> tuple[int, str]:
    """Return the HTTP status and the code of a botocore ClientError."""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    return status, str(error.response.get("Error", {}).get("Code") or status)


def _client_error(error: Exception, location: Location, connection: str) -> SegmindInputError | SegmindStorageError:
    status, code = error_code(error)
    reason, where = _reason(error), location.where
    if code in _CHECKSUM_CODES or (status == 400 and _CHECKSUM_WORDS.search(reason)):
        return SegmindInputError(f"{where}: S3 refused the request ({reason}). {_CHECKSUM_REMEDY}")
    if not 400 <= status < 500 or status in {408, 429} or code in _TEMPORARY:
        return SegmindStorageError(f"{where}: S3 failed ({status} {code}). Try again later.")
    if status == 416:  # S3's response to a range of an object that has no bytes
        return SegmindInputError(f"{where} is empty. Upload it again.")
    if code == "InvalidObjectState":
        return SegmindInputError(f"{where} is archived ({reason}). Restore the object, then clear the task.")
    if status == 404:
        what = {"NoSuchBucket": "bucket", "NoSuchKey": "object"}.get(code, "bucket or object")
        hint = " Note that the key ends in a space." if location.key.endswith(" ") else ""
        kind = SegmindMissingFileError if code == "NoSuchKey" else SegmindInputError
        return kind(
            f"{where}: S3 has no such {what}. Check the name, and the region and endpoint of {connection}.{hint}"
        )
    if status in {401, 403}:
        hint = f" {_CHECKSUM_REMEDY}" if code == "SignatureDoesNotMatch" else ""  # Google's way to refuse checksums
        return SegmindInputError(
            f"{where}: S3 refused access ({reason}). Allow {connection} to read or write it, and check that it exists: "
            f"S3 hides what is missing from those who may not list the bucket.{hint}"
        )
    return SegmindInputError(
        f"{where}: S3 refused the request ({reason}). Check the name and the region of {connection}."
    )


def _reason(error: Exception) -> str:
    """Return the error's own words, without the queries and users of URLs in them."""
    return f"{type(error).__name__}: {redact(error, limit=_REASON)}"
