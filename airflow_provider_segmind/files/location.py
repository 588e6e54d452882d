"""How a user writes where something lies: the text of a parameter, taken apart without opening anything."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.local import without_query

S3_SCHEMES = frozenset({"s3", "s3a", "s3n"})
URL_SCHEMES = frozenset({"http", "https"})

# Spared the look into Airflow's registry below, which loads every provider's metadata.
_KNOWN_STORES = frozenset({"abfs", "abfss", "adl", "az", "gcs", "gs", "hdfs", "memory", "oss", "sftp", "webhdfs"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")
_USER = re.compile(r"^([A-Za-z][\w+.-]*:/*)[^/]*@")  # also where a slash was forgotten
_SHOWN = 60


class S3Location(NamedTuple):
    """
    An object in S3.

    :param conn_id: the connection named in the URI (``s3://conn@bucket/key``, as ObjectStoragePath writes it)
    """

    bucket: str
    key: str
    conn_id: str | None


def text_of(parameter: str, value: object) -> str:
    """
    Return the text of a path-like parameter.

    :param parameter: its name, for the error
    :param value: a string, a path or an ObjectStoragePath
    :raises SegmindInputError: it is another type, empty, or what a template renders to when it finds nothing
    """
    # Airflow 3's ObjectStoragePath is no os.PathLike; its own text keeps the connection id.
    if value is not None and not isinstance(value, str | os.PathLike) and not hasattr(value, "protocol"):
        raise SegmindInputError(
            f"{parameter} is {redact(repr(value), limit=_SHOWN)}, a {type(value).__name__}: give a string or a path"
        )
    # A local ObjectStoragePath's text is no URI: its "%" is not decoded.
    local = getattr(value, "protocol", None) in {"", "file", "local"}
    text = str(getattr(value, "path", value) if local else value).strip()
    if text in {"", "None"}:
        raise SegmindInputError(
            f"{parameter} is {value!r}: if it is a template, it rendered to nothing; if it is an upstream task's "
            "XCom, that gave nothing; check the value behind it"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SegmindInputError(f"{parameter} is {shown(text)}, which is no UTF-8: rename it") from error
    return text


def scheme_of(parameter: str, text: str) -> str:
    """
    Return the lower-case scheme of ``text``, empty for a local path.

    :raises SegmindInputError: the slashes after a scheme are missing, as in ``s3:/bucket/key``
    """
    match = _SCHEME.match(text)
    if match is None:
        return ""
    scheme = match[1].lower()
    if match[2]:
        return scheme
    if scheme in S3_SCHEMES | URL_SCHEMES | _KNOWN_STORES | {"file"}:
        raise SegmindInputError(f"{parameter} is {shown(text)}: write {scheme}:// with two slashes")
    return ""  # a colon in a file's name


def split_s3(parameter: str, uri: str) -> S3Location:
    """
    Take an S3 URI apart by hand: ``?``, ``#`` and ``%`` are ordinary characters in a key.

    :raises SegmindInputError: there is no bucket
    """
    authority, _, key = uri.partition("://")[2].partition("/")
    conn_id, _, bucket = authority.rpartition("@")
    if not bucket:
        raise SegmindInputError(f"{parameter} is {shown(uri)}, which names no bucket: write s3://bucket/key")
    return S3Location(bucket, key, conn_id or None)


def local_path(parameter: str, text: str) -> str:
    """
    Return the path behind a local path or a ``file://`` URI, ``~`` expanded.

    :raises SegmindInputError: the URI names a host, as ``file://folder/image.png`` does by mistake
    """
    path = text
    if scheme_of(parameter, text) == "file":
        host, slash, rest = text[len("file://") :].partition("/")
        if host not in {"", "localhost"} or not slash:
            raise SegmindInputError(
                f"{parameter} is {shown(text)}, whose host is {host!r}: write file:///folder/image.png, three slashes"
            )
        path = "/" + unquote(rest)
    if "\0" in path:
        raise SegmindInputError(f"{parameter} is {shown(path)}, which holds a NUL: no path does")
    if path.startswith("~"):
        folder = "/" if path.endswith("/") else ""  # pathlib drops it, and it tells a folder
        try:
            path = str(Path(path).expanduser()) + folder
        except RuntimeError as error:
            raise SegmindInputError(
                f"{parameter} is {shown(path)}, and this worker knows no such home: write the path in full"
            ) from error
    if is_too_long(path):
        raise SegmindInputError(
            f"{parameter} is {shown(path)}, {len(path)} characters: no path, nor a name in it, is that long"
        )
    return path


def is_too_long(path: str) -> bool:
    """Return whether Linux has no such path: 4096 and 255 bytes are its limits for a path and for a name in it."""
    return len(os.fsencode(path)) >= 4096 or any(len(os.fsencode(name)) > 255 for name in path.split("/"))


def is_object_store(scheme: str) -> bool:
    """Return whether Airflow can open URIs of this scheme through ObjectStoragePath."""
    if scheme in _KNOWN_STORES:
        return True
    if scheme in URL_SCHEMES:
        return False
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        return ObjectStoragePath(f"{scheme}://bucket/key").fs is not None
    except (ImportError, ValueError):
        return False


def public(text: str) -> str:
    """Return a path or URI without what may be secret: the user or connection, the query, and a URL's fragment."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return without_query(text)
    if scheme.lower() in URL_SCHEMES:
        parts = urlsplit(text)
        rest = parts.netloc + parts.path
    authority, slash, path = rest.partition("/")
    return without_query(f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}")


def shown(text: str) -> str:
    """Return ``text`` as an error may quote it: without secrets, and short."""
    try:
        text = public(text)
    except ValueError:  # no URL at all: what follows a "?" may be a signature all the same
        text = text.partition("?")[0].rpartition("@")[2]
    text = _USER.sub(r"\1", text)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
