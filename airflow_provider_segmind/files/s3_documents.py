"""
Documents in S3. ``If-None-Match`` and ``If-Match`` decide who has written first.

boto repeats a request whose response was lost, and is then refused because of its own first write. So after a refusal
the object is read back: where it has our content, the write succeeded. No two writers may therefore write the same
content.

AWS keeps both conditions. Some other stores that speak S3 ignore them without a word. So a process repeats its first
write with each condition in a bucket of theirs. The condition does not hold any more; a store that takes the repetition
has ignored it. Nothing is lost by that, since both writes have the same content.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_segmind.files.document_store import Document, DocumentsBelow
from airflow_provider_segmind.files.location import Location
from airflow_provider_segmind.files.s3 import error_code, s3_errors
from airflow_provider_segmind.files.s3_client import s3_hook, write_headers

CONTENT_TYPE = "application/json"

_MAX_CONFLICTS = 6  # of one write with others that S3 takes at the same time
_CONFLICT_SECONDS = 0.05
# Of the upload arguments, what concerns pictures: a document in an archive cannot be read, and one under a retention
# keeps every version.
_FOR_PICTURES_ONLY = frozenset(
    {"CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "Expires", "StorageClass"}
    | {"ObjectLockLegalHoldStatus", "ObjectLockMode", "ObjectLockRetainUntilDate", "WebsiteRedirectLocation"}
)
_READ_ARGS = frozenset(
    {"ExpectedBucketOwner", "RequestPayer", "SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5"}
)

_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")

log = logging.getLogger(__name__)

_kept: set[tuple[str, ...]] = set()
"""The conditions that this process has seen to be kept: endpoint, bucket and header."""


class S3Documents(DocumentsBelow):
    """Documents in S3; see :class:`DocumentStore`."""

    def __init__(self, location: Location, aws_conn_id: str | None, extra_args: Mapping[str, Any]) -> None:
        super().__init__(location)
        self._aws_conn_id = aws_conn_id
        self._read_args = {key: value for key, value in extra_args.items() if key in _READ_ARGS}
        kept = {key: value for key, value in extra_args.items() if key not in _FOR_PICTURES_ONLY}
        self._write_args = {**kept, "ContentType": CONTENT_TYPE}
        self._conditional = True

    @contextmanager
    def _client(self, location: Location) -> Iterator[Any]:
        with s3_errors(location, self._aws_conn_id):
            yield s3_hook(location, self._aws_conn_id).get_conn()

    def read(self, name: str) -> Document | None:
        """Return a document. A 403 is an error: S3 may hide that it is absent, and may hide one that is there."""
        from botocore.exceptions import ClientError  # type: ignore[import-untyped]

        location = self._locate(name)
        with self._client(location) as client:
            try:
                found = client.get_object(Bucket=location.bucket, Key=location.key, **self._read_args)
            except ClientError as error:
                if error_code(error) == (404, "NoSuchKey"):
                    return None
                raise
            with closing(found["Body"]) as body:
                return Document(body.read(), str(found.get("ETag")))

    def create(self, name: str, data: bytes) -> str | None:
        """Write a new document."""
        if self._conditional:
            try:
                return self._put_if(name, data, "If-None-Match", "*")
            except _UnconditionalStoreError:
                self._conditional = False
        return None if self.read(name) else self._put_and_compare(name, data)

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Write over a version."""
        if self._conditional:
            try:
                return self._put_if(name, data, "If-Match", version)
            except _UnconditionalStoreError:
                self._conditional = False
        present = self.read(name)
        return self._put_and_compare(name, data) if present is not None and present.version == version else None

    def write(self, name: str, data: bytes) -> str:
        """Write a document, and replace one of that name."""
        location = self._locate(name)
        with self._client(location) as client:
            return self._put(client, location, data)

    def _put(self, client: Any, location: Location, data: bytes) -> str:
        done = client.put_object(Bucket=location.bucket, Key=location.key, Body=data, **self._write_args)
        return str(done.get("ETag"))

    def _put_if(self, name: str, data: bytes, header: str, value: str) -> str | None:
        location = self._locate(name)
        with self._client(location) as client:
            version = self._try_put(client, location, data, {header: value})
            if version is not None and self._is_kept(client, location, data, {header: value}):
                return version
        return self._version_if_ours(name, data)

    def _is_kept(self, client: Any, location: Location, data: bytes, condition: Mapping[str, str]) -> bool:
        """Return whether the store keeps the condition of a write that has succeeded."""
        from botocore.exceptions import BotoCoreError, ClientError

        endpoint = str(client.meta.endpoint_url)
        subject = endpoint, location.bucket, *condition
        if subject in _kept or str(urlsplit(endpoint).hostname).endswith(_AWS_HOSTS):
            return True
        try:
            is_ignored = self._try_put(client, location, data, condition) is not None
        except (BotoCoreError, ClientError):
            return True  # The first write has succeeded. The next one is repeated again, and tells.
        if is_ignored:
            _warn_of_unconditional_store(location.bucket)
            self._conditional = False
        else:
            _kept.add(subject)
        return not is_ignored

    def _try_put(self, client: Any, location: Location, data: bytes, condition: Mapping[str, str]) -> str | None:
        """Write if a condition holds, and return the version; ``None``: it does not, or this is a repetition."""
        from botocore.exceptions import ClientError

        for attempt in range(_MAX_CONFLICTS):
            try:
                # As headers, because an old boto3 does not know the arguments.
                with write_headers(condition):
                    return self._put(client, location, data)
            except ClientError as error:
                status, code = error_code(error)
                if status == 501 or code == "NotImplemented":
                    _warn_of_unconditional_store(location.bucket)
                    raise _UnconditionalStoreError from error
                if status == 409:  # another write was under way: S3 asks to repeat this one
                    time.sleep(_CONFLICT_SECONDS * 2**attempt)
                    continue
                if status == 412 or (status, code) == (404, "NoSuchKey"):
                    break
                raise
        return None

    def _version_if_ours(self, name: str, data: bytes) -> str | None:
        present = self.read(name)
        return present.version if present is not None and present.data == data else None

    def _put_and_compare(self, name: str, data: bytes) -> str | None:
        self.write(name, data)
        return self._version_if_ours(name, data)

    def delete(self, name: str) -> None:
        """Delete a document, if there is one."""
        location = self._locate(name)
        with self._client(location) as client:
            client.delete_object(Bucket=location.bucket, Key=location.key)

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with a text, sorted."""
        location, base = self._locate(prefix), len(self._location.key)
        with self._client(location) as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=location.key)
            keys = [found["Key"][base:] for page in pages for found in page.get("Contents", ())]
        return sorted(key for key in keys if key and not key.endswith("/"))


class _UnconditionalStoreError(Exception):
    """A store says that it has no conditional writes."""


@cache
def _warn_of_unconditional_store(bucket: str) -> None:
    log.warning(
        "The store of the bucket %r has no conditional writes. Documents in it are read back after each write instead, "
        "so of two processes that write one in the same moment both may believe to be the first.",
        bucket,
    )
