"""S3 for images and results: a client with bounded timeouts, the head of an object, presigned URLs, clear errors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.location import Location

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

MAX_PRESIGNED_SECONDS = 7 * 24 * 3600  # SigV4 allows no more

# botocore's own are 60 s and 5 attempts for each request: a dead endpoint would hold a worker slot for ten minutes.
_CONFIG = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
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
_REASON = 1000
"""Characters of S3's own words that an error keeps: an explicit deny and its policy are named at their very end."""


def s3_hook(
    location: Location,
    aws_conn_id: str | None,
    *,
    sigv4: bool = False,
    region_name: str | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> S3Hook:
    """
    Return a hook whose client is built.

    :param location: of the object; a connection in it (``s3://conn@bucket/key``) takes precedence over ``aws_conn_id``
    :param aws_conn_id: the connection; ``None`` is boto's default chain. What its ``config_kwargs`` say
        (timeouts, retries, addressing style, proxies) takes precedence over the defaults here
    :param sigv4: sign with SigV4 whatever the connection says
    :param region_name: instead of the connection's
    :param extra_args: for uploads, as in ``S3Hook``
    :raises SegmindInputError: the connection cannot make a client
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config  # type: ignore[import-untyped]

    conn_id = location.conn_id or aws_conn_id
    hook = S3Hook(aws_conn_id=conn_id, region_name=region_name, extra_args=dict(extra_args or {}))
    try:
        config = Config(**_CONFIG).merge(hook.config)
        hook.conn_config.botocore_config = config.merge(Config(signature_version="s3v4")) if sigv4 else config
        hook.get_conn()
    except (TypeError, ValueError) as error:  # an unknown name in config_kwargs, an invalid endpoint_url
        raise SegmindInputError(
            f"aws_conn_id: no S3 client can be made from the connection {conn_id!r}: {_reason(error)}"
        ) from error
    return hook


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """
    What one ranged GET tells of an object.

    :param data: its first bytes
    :param size: of the whole object, in bytes
    :param version: its ETag; where a store has none, when it was modified
    :param region: of the bucket where it is another one than the client's
    """

    data: bytes = field(repr=False)
    size: int
    version: str
    region: str | None


def read_head(location: Location, aws_conn_id: str | None, length: int) -> ObjectHead:
    """
    Read the first bytes of an object with one GET.

    Unlike a HEAD it also shows that an object is archived, and S3 says in words why it refuses.

    :param length: bytes
    :raises SegmindInputError: the object is missing, empty, archived or forbidden
    :raises SegmindStorageError: S3 is down, slow or fails
    """
    with s3_errors(location, aws_conn_id):
        client = s3_hook(location, aws_conn_id, sigv4=True).get_conn()
        regions = _watch_regions(client)
        found = client.get_object(Bucket=location.bucket, Key=location.key, Range=f"bytes=0-{length - 1}")
        body = found["Body"]
        with body:
            data = body.read(length)  # a store that ignores ranges sends the whole object
        whole = str(found.get("ContentRange", "")).rpartition("/")[2]
        size = int(whole) if whole.isdecimal() else int(found["ContentLength"])
        if not data:
            raise _empty(location)
        other = regions[-1] if regions and regions[-1] != client.meta.region_name else None
        return ObjectHead(data, size, str(found.get("ETag") or found.get("LastModified")), other)


def presigned_url(location: Location, aws_conn_id: str | None, valid_for: float, region: str | None) -> str:
    """
    Return a GET URL that is signed with SigV4. S3 is not asked; see :func:`read_head` for that.

    A URL that is signed with temporary credentials, such as a role's, ends with them if they end first.

    :param valid_for: seconds, rounded up and at most 7 days
    :param region: the bucket's, ``None`` for the client's
    """
    seconds = min(max(math.ceil(min(valid_for, MAX_PRESIGNED_SECONDS)), 1), MAX_PRESIGNED_SECONDS)
    with s3_errors(location, aws_conn_id):
        client = s3_hook(location, aws_conn_id, sigv4=True, region_name=region).get_conn()
        params = {"Bucket": location.bucket, "Key": location.key}
        url: str = client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)
    return url


def _watch_regions(client: Any) -> list[str]:
    """
    Return a list that fills with the bucket's region where S3 tells it, as it does when asked in another region.

    botocore follows such a response, but goes on signing URLs for the client's region, which S3 then refuses.
    """
    regions: list[str] = []

    def watch(response: Any, **_: object) -> None:
        region = response[0].headers.get("x-amz-bucket-region") if response else None
        if region:
            regions.append(region)

    client.meta.events.register_first("needs-retry.s3", watch)
    return regions


class _LeftOpen:
    """A file that an upload cannot close, as boto's does: its owner may need it again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """Do nothing."""


def upload(
    file: BinaryIO, target: Location, aws_conn_id: str | None, arguments: dict[str, Any], headers: dict[str, str]
) -> None:
    """
    Write an object in one request, or in parts where it is large, and leave the file open.

    :param arguments: boto3's upload arguments
    :param headers: of the request that makes the object appear: a condition on what is there
    :raises SegmindInputError: this boto3 does not know one of the arguments
    """
    hook = s3_hook(target, aws_conn_id, extra_args=arguments)
    config = hook.transfer_config
    # boto3 keeps ten parts in memory. Only its classic client lets a request have headers of our own.
    config.max_in_memory_upload_chunks = 2
    config.preferred_transfer_client = "classic"
    # boto3's upload takes no condition among its arguments, but sends the headers that its client's requests have.
    # A multipart upload is decided by the request that completes it.
    for operation in ("PutObject", "CompleteMultipartUpload"):
        hook.get_conn().meta.events.register(
            f"before-call.s3.{operation}", lambda params, **_: params["headers"].update(headers)
        )
    try:
        hook.load_file_obj(_LeftOpen(file), key=target.key, bucket_name=target.bucket, replace=True)
    except ValueError as error:  # a boto3 that does not know one of the arguments yet
        raise SegmindInputError(f"{target.where}: boto3 refuses the upload's arguments ({redact(error)}).") from error


@contextmanager
def s3_errors(location: Location, aws_conn_id: str | None) -> Iterator[None]:
    """
    Convert what boto raises into what the user should do about it.

    :raises SegmindInputError: no such bucket or object, access denied, archived, no credentials: the user must act
    :raises SegmindStorageError: down, a timeout, a 5xx: a retry may succeed
    """
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
        return _empty(location)
    if code == "InvalidObjectState":
        return SegmindInputError(f"{where} is archived ({reason}). Restore the object, then clear the task.")
    if status == 404:
        what = {"NoSuchBucket": "bucket", "NoSuchKey": "object"}.get(code, "bucket or object")
        hint = " Note that the key ends in a space." if location.key.endswith(" ") else ""
        return SegmindInputError(
            f"{where}: S3 has no such {what}. Check the name, and the region and endpoint of {connection}.{hint}"
        )
    if status in {401, 403}:
        return SegmindInputError(
            f"{where}: S3 refused access ({reason}). Allow {connection} to read or write it, and check that it exists: "
            "S3 hides what is missing from those who may not list the bucket."
            + (f" {_CHECKSUM_REMEDY}" if code == "SignatureDoesNotMatch" else "")  # Google's way to refuse them
        )
    return SegmindInputError(
        f"{where}: S3 refused the request ({reason}). Check the name and the region of {connection}."
    )


def _empty(location: Location) -> SegmindInputError:
    return SegmindInputError(f"{location.where} is empty. Upload it again.")


def _reason(error: Exception) -> str:
    """Return the error's own words, without the queries and users of URLs in them."""
    return f"{type(error).__name__}: {redact(error, limit=_REASON)}"
