"""The S3 that images and results share: a client with sane timeouts, presigned URLs, errors that say what to mend."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.location import public, split_s3

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

MAX_PRESIGNED_SECONDS = 7 * 24 * 3600  # SigV4 allows no more

# botocore's own are 60 s and 5 attempts each way: a dead endpoint would hold a worker slot for ten minutes.
_CONFIG = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
# 4xx that a repetition mends.
_TEMPORARY = frozenset(
    {"RequestTimeout", "ExpiredToken", "NoSuchUpload", "BadDigest", "IncompleteBody", "OperationAborted"}
)


def s3_hook(
    uri: str,
    aws_conn_id: str | None,
    *,
    sigv4: bool = False,
    region_name: str | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> S3Hook:
    """
    Return a hook whose client is built.

    :param uri: the object; a connection in it (``s3://conn@bucket/key``) goes before ``aws_conn_id``
    :param aws_conn_id: the connection; ``None`` is boto's default chain. What its ``config_kwargs`` say
        (timeouts, retries, addressing style, proxies) wins over the defaults here
    :param sigv4: sign with SigV4 whatever the connection says
    :param region_name: instead of the connection's
    :param extra_args: for uploads, as in ``S3Hook``
    :raises SegmindInputError: the connection cannot make a client
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config  # type: ignore[import-untyped]

    conn_id = split_s3("uri", uri).conn_id or aws_conn_id
    hook = S3Hook(aws_conn_id=conn_id, region_name=region_name, extra_args=dict(extra_args or {}))
    try:
        config = Config(**_CONFIG).merge(hook.config)
        hook.conn_config.botocore_config = config.merge(Config(signature_version="s3v4")) if sigv4 else config
        hook.get_conn()
    except (TypeError, ValueError) as error:  # a config_kwargs that is none, an endpoint_url that is none
        raise SegmindInputError(
            f"aws_conn_id: the connection {conn_id!r} makes no S3 client: {_reason(error)}"
        ) from error
    return hook


def presign(uri: str, *, aws_conn_id: str | None, valid_for: float, parameter: str = "image") -> str:
    """
    Return a GET URL that is signed with SigV4, for an object that is there and not empty.

    Signed with temporary credentials, such as a role's, a URL ends with them if they end first.

    :param uri: ``s3://bucket/key``
    :param aws_conn_id: the AWS connection; ``None`` is boto's default chain
    :param valid_for: seconds, rounded up and at most 7 days
    :param parameter: what errors call the value
    :raises SegmindInputError: the URI has no key, the object is missing, empty or forbidden, there are no credentials
    :raises SegmindStorageError: S3 is down, slow or fails
    """
    bucket, key, _ = split_s3(parameter, uri)
    if not key or key.endswith("/"):
        raise SegmindInputError(f"{parameter} is {public(uri)!r}, no object's URI: write s3://bucket/key")
    seconds = min(max(math.ceil(min(valid_for, MAX_PRESIGNED_SECONDS)), 1), MAX_PRESIGNED_SECONDS)
    with s3_errors(parameter, uri, aws_conn_id):
        client = s3_hook(uri, aws_conn_id, sigv4=True).get_conn()
        regions = _watch_regions(client)
        if client.head_object(Bucket=bucket, Key=key)["ContentLength"] == 0:
            raise SegmindInputError(f"{parameter}: {public(uri)} has 0 bytes: write the object anew")
        if regions and regions[-1] != client.meta.region_name:
            client = s3_hook(uri, aws_conn_id, sigv4=True, region_name=regions[-1]).get_conn()
        url: str = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds)
    return url


def _watch_regions(client: Any) -> list[str]:
    """
    Return a list that fills with the bucket's region where S3 tells it, as it does when asked in another region.

    botocore follows such an answer, but goes on signing URLs for the client's region, which S3 then refuses.
    """
    regions: list[str] = []

    def look(response: Any, **_: object) -> None:
        region = response[0].headers.get("x-amz-bucket-region") if response else None
        if region:
            regions.append(region)

    client.meta.events.register_first("needs-retry.s3", look)
    return regions


@contextmanager
def s3_errors(parameter: str, uri: str, aws_conn_id: str | None) -> Iterator[None]:
    """
    Turn what boto raises into what the user should do about it.

    :raises SegmindInputError: no such bucket or object, access denied, no credentials: the user mends it
    :raises SegmindStorageError: down, a timeout, a 5xx: a retry may do
    """
    from boto3.exceptions import Boto3Error  # type: ignore[import-untyped]
    from botocore import exceptions as boto  # type: ignore[import-untyped]

    where = f"{parameter}: {public(uri)}"
    conn_id = split_s3(parameter, uri).conn_id or aws_conn_id
    connection = f"the connection {conn_id!r}" if conn_id else "boto's default credentials"
    try:
        yield
    except boto.ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        code = str(error.response.get("Error", {}).get("Code") or status)
        if not 400 <= status < 500 or status in {408, 429} or code in _TEMPORARY:
            raise SegmindStorageError(f"{where}: S3 failed ({status} {code}): try again later") from error
        if status == 404:
            what = {"NoSuchBucket": "bucket", "NoSuchKey": "object"}.get(code, "bucket or object")
            remedy = f"S3 has no such {what}: check the name, and the region and endpoint of {connection}"
        elif status in {401, 403}:
            remedy = (
                f"S3 refused access ({_reason(error)}): allow {connection} to read or write it, and check that "
                "it exists (S3 hides what is missing from those who may not list the bucket)"
            )
        else:
            remedy = f"S3 refused the request ({_reason(error)}): check the name and the region of {connection}"
        raise SegmindInputError(f"{where}: {remedy}") from error
    except (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.ProfileNotFound,
        boto.NoRegionError,
        boto.InvalidRegionError,
        boto.ParamValidationError,
    ) as error:
        raise SegmindInputError(f"{where}: {_reason(error)}: check the name and {connection}") from error
    except (boto.BotoCoreError, Boto3Error) as error:
        raise SegmindStorageError(
            f"{where}: S3 is not reachable ({_reason(error)}): try again later, or check the endpoint of {connection}"
        ) from error
    except OSError as error:  # of the file at this end
        raise SegmindStorageError(f"{where}: the worker's own copy failed ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """Return the error's text, short, without queries and user parts of the URLs in it."""
    text = re.sub(r"\?[^\s\"']+", "", re.sub(r"//[^/@\s]+@", "//", str(error)))
    return f"{type(error).__name__}: {text[:200]}"
