"""Where results go: the destination a user gave, and a finished file that appears there whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from urllib.parse import quote

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.local import appearing
from airflow_provider_segmind.files.location import (
    S3_SCHEMES,
    URL_SCHEMES,
    is_object_store,
    local_path,
    public,
    scheme_of,
    shown,
    split_s3,
    text_of,
)
from airflow_provider_segmind.files.s3 import s3_errors, s3_hook
from airflow_provider_segmind.files.source import object_errors

if TYPE_CHECKING:
    from airflow_provider_segmind.files.source import ImageSource

_CHUNK = 1 << 20
_MAX_METADATA = 2048  # S3's, for all names and values together
_SAME_STORE = {"gcs": "gs", "abfss": "abfs", "az": "abfs"}
_PRINTABLE = "".join(chr(code) for code in range(32, 127))


@dataclass(frozen=True, slots=True)
class Destination:
    """
    Where a result goes.

    :param kind: how it is written
    :param uri: ``s3://bucket/key``, a local path, or another store's URI
    :param is_prefix: it ends in ``/``: each result is named after its source
    """

    kind: Literal["s3", "file", "object"]
    uri: str
    is_prefix: bool

    def locate(self, *, stem: str, extension: str) -> str:
        """
        Return the URI of one result.

        :param stem: for a prefix: the name without extension; a slash in it becomes ``_``
        :param extension: for a prefix: with or without its dot
        """
        if not self.is_prefix:
            return self.uri
        return f"{self.uri}{stem.replace('/', '_')}.{extension.removeprefix('.')}"


def parse_destination(destination: object) -> Destination:
    """
    Recognise a destination; nothing is opened, only a local path is asked whether it is a folder.

    :param destination: ``s3://bucket/key``, a local path, ``file://``, another object store's URI or an
        ObjectStoragePath; ending in ``/`` it is a prefix
    :raises SegmindInputError: it is empty, has an unknown scheme or no key, or is a folder without a trailing ``/``
    """
    text = text_of("destination", destination)
    scheme = scheme_of("destination", text)
    if scheme in S3_SCHEMES:
        split_s3("destination", text)
        uri = "s3" + text[len(scheme) :]
        if "/" not in uri.partition("://")[2]:
            raise SegmindInputError(
                f"destination is {public(uri)!r}, which has no key: write s3://bucket/key.png, or s3://bucket/prefix/"
            )
        return Destination("s3", uri, uri.endswith("/"))
    if scheme and scheme != "file":
        if scheme in URL_SCHEMES or not is_object_store(scheme):
            raise SegmindInputError(
                f"destination is {shown(text)}: {scheme}:// cannot be written to: "
                "write s3://bucket/key, a local path or another object store's URI"
            )
        return Destination("object", text, text.endswith("/"))
    path = local_path("destination", text)
    if not path.endswith("/") and os.path.isdir(path):  # noqa: PTH112 - pathlib's raises where it may not look
        raise SegmindInputError(
            f"destination is {path!r}, a folder: write {path + '/'!r} (as text, a path object drops the slash), "
            "or name a file in it"
        )
    return Destination("file", path, path.endswith("/"))


def check_destination(destination: Destination, *, aws_conn_id: str | None) -> None:
    """
    Refuse a destination that could not be written to, before anything is paid for; nothing is written.

    What only an attempt can show (a policy that allows reading alone, a full disk) is not found out here.

    :param aws_conn_id: the AWS connection for ``s3://``; ``None`` is boto's default chain
    :raises SegmindInputError: there is no such bucket, or no folder can be made where the path leads
    :raises SegmindStorageError: S3 is down, slow or fails
    """
    if destination.kind == "s3":
        bucket, _, _ = split_s3("destination", destination.uri)
        with s3_errors("destination", destination.uri, aws_conn_id):
            from botocore.exceptions import ClientError  # type: ignore[import-untyped]

            try:
                s3_hook(destination.uri, aws_conn_id).get_conn().head_bucket(Bucket=bucket)
            except ClientError as error:
                # Who may write need not be allowed to look: only a missing bucket and a failing S3 count.
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in (301, 400, 401, 403):
                    raise
    elif destination.kind == "file":
        place = Path(destination.uri) if destination.is_prefix else Path(destination.uri).parent
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        if not os.path.isdir(place) or not os.access(place, os.W_OK | os.X_OK):  # noqa: PTH112 - as above
            raise SegmindInputError(
                f"destination: {public(destination.uri)} cannot be written: {public(str(place))} is no folder that "
                "the worker's user may write to: give another path"
            )
    else:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        with object_errors("destination", public(destination.uri)):
            _ = ObjectStoragePath(destination.uri).fs  # needs the store's provider and its connection


def refuse_same_place(source: ImageSource, uri: str) -> None:
    """
    Refuse a result that would replace its own photo: a Clear would then pay for erasing what is erased already.

    :param source: the image
    :param uri: what :meth:`Destination.locate` returned
    :raises SegmindInputError: both are the same object or file, whatever connection, link or spelling leads to it
    """
    destination = parse_destination(uri)
    if _place(source.kind, source.value) == _place(destination.kind, destination.uri):
        raise SegmindInputError(
            f"destination: {public(uri)} is the image itself: name another folder or file, or the photo would be lost"
        )


def _place(kind: str, uri: str) -> tuple[str, ...]:
    """Return what two ways to write one place have in common; places of different kinds differ in its length."""
    if kind == "s3":
        return split_s3("destination", uri)[:2]
    if kind == "file":
        return (os.path.realpath(uri),)
    scheme, _, rest = uri.partition("://")
    authority, _, key = rest.partition("/")
    return (_SAME_STORE.get(scheme.lower(), scheme.lower()), authority.rpartition("@")[2], key)


def store(
    file: BinaryIO,
    uri: str,
    *,
    content_type: str,
    metadata: Mapping[str, str],
    aws_conn_id: str | None,
) -> None:
    """
    Stream a finished file to its destination, over what is there.

    S3 shows the object whole or not at all, and a failed multipart upload is aborted; of a killed process its parts
    remain, unseen, until the bucket's lifecycle rule removes them. A local file is renamed into place. Another
    store gets neither content type nor metadata; one that shows an object before it is closed (``memory``,
    ``sftp``) may show a part of it for the while, which is removed on failure unless it replaced something.

    :param file: complete and seekable; read from its start, and left open
    :param uri: what :meth:`Destination.locate` returned
    :param content_type: the media type, for S3
    :param metadata: for S3: percent-encoded where it is not ASCII, cut to 2 KB in all
    :param aws_conn_id: the AWS connection for ``s3://``; ``None`` is boto's default chain
    :raises SegmindInputError: no such bucket, access denied, no folder can be made there: the user mends it
    :raises SegmindStorageError: the store is down, full, slow or fails: a retry may do
    """
    destination = parse_destination(uri)
    if destination.is_prefix:
        raise SegmindInputError(f"destination is {shown(uri)}, a prefix: name the object in it")
    file.seek(0)
    if destination.kind == "s3":
        extra_args = {"ContentType": content_type, "Metadata": _s3_metadata(metadata)}
        _store_s3(file, destination.uri, extra_args, aws_conn_id)
    elif destination.kind == "file":
        with appearing(destination.uri, "destination") as copy:
            shutil.copyfileobj(file, copy, _CHUNK)
    else:
        _store_object(file, destination.uri)


class _LeftOpen:
    """A file that an upload cannot close, as boto's does: its owner may need it again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """Do nothing."""


def _store_s3(file: BinaryIO, uri: str, extra_args: dict[str, Any], aws_conn_id: str | None) -> None:
    bucket, key, _ = split_s3("destination", uri)
    with s3_errors("destination", uri, aws_conn_id):
        hook = s3_hook(uri, aws_conn_id, extra_args=extra_args)
        hook.load_file_obj(_LeftOpen(file), key=key, bucket_name=bucket, replace=True)


def _store_object(file: BinaryIO, uri: str) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    with object_errors("destination", public(uri)):
        path = ObjectStoragePath(uri)
        # Through path.fs, which is Airflow's: without a connection, the path's own methods take another.
        fs, name = path.fs, path.path
        replaces = fs.exists(name)
        out = fs.open(name, "wb")
        try:
            shutil.copyfileobj(file, out, _CHUNK)
            out.close()
        except BaseException:
            # Not close(), nor the garbage collector's: on most stores that would publish the part.
            with suppress(Exception):
                out.discard()
            with suppress(Exception):
                out.closed = True
            if not replaces:
                with suppress(Exception):
                    fs.rm_file(name)
            raise


def _s3_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Make metadata what S3 takes: ASCII, and small; the longest values are cut first."""
    values = {name: quote(value, safe=_PRINTABLE) for name, value in metadata.items()}
    while values and (over := sum(len(name) + len(value) for name, value in values.items()) - _MAX_METADATA) > 0:
        longest = max(values, key=lambda name: len(values[name]))
        kept = len(values[longest]) - over - 3
        if kept <= 0:
            del values[longest]
        else:
            values[longest] = re.sub(r"%[0-9A-F]?$", "", values[longest][:kept]) + "..."
    return values
