"""Locations: where something lies, parsed once and passed on as a value, and how files and stores are opened."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote, urlsplit

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindMissingFileError, SegmindStorageError

S3_SCHEMES = frozenset({"s3", "s3a", "s3n"})
URL_SCHEMES = frozenset({"http", "https"})

# Not checked while a DAG file is parsed: Airflow's registry of stores loads the metadata of every provider.
_KNOWN_STORES = frozenset({"abfs", "abfss", "adl", "az", "gcs", "gs", "hdfs", "memory", "oss", "sftp", "webhdfs"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")
_NO_SCHEME = re.compile(r"//[\w-]+(\.[\w-]+)+(:\d+)?/")  # as web pages write addresses: //cdn.example.com/x.png
_USER = re.compile(r"^([A-Za-z][\w+.-]*:/*)[^/]*@")  # also where a slash is missing
_SAME_STORE = {"gcs": "gs", "abfss": "abfs", "az": "abfs"}
_QUERY = re.compile(r"\?(?=.*=).*", re.DOTALL)
_QUOTED = 60


@dataclass(frozen=True, slots=True)
class Location:
    """Where something lies, or is to be written."""

    kind: Literal["url", "s3", "file", "object", "inline"]
    uri: str = field(repr=False)  # of an inline image: its Base64
    label: str  # its name in XCom, logs, metadata and errors: no query, no user or connection, no Base64
    parameter: str  # that it was given as, for errors
    bucket: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    conn_id: str | None = field(default=None, repr=False)  # in s3://conn@bucket/key, as ObjectStoragePath writes it

    @property
    def where(self) -> str:
        """The beginning of an error about this location."""
        return f"{self.parameter}: {self.label}"

    @property
    def place(self) -> str:
        """The same text for every spelling and connection that leads there; links are not followed."""
        if self.kind == "s3":
            return f"s3://{self.bucket}/{self.key}"
        if self.kind == "file":
            return f"file://{os.path.abspath(self.uri)}"  # noqa: PTH100 - pathlib does not resolve ".."
        scheme, _, rest = self.uri.partition("://")
        authority, _, key = rest.partition("/")
        scheme = _SAME_STORE.get(scheme.lower(), scheme.lower())
        return f"{scheme}://{authority.rpartition('@')[2]}/{key}"

    def below(self, name: str) -> Location:
        """Return the location of a name below this one, a prefix that ends in ``/``."""
        key = self.key + name if self.kind == "s3" else ""
        return replace(self, uri=self.uri + name, label=self.label + name, key=key)


def parse_location(parameter: str, value: object) -> Location:
    """Recognise a URL, an S3 URI, a local path, ``file://``, another object store's URI or an ObjectStoragePath."""
    text = text_of(parameter, value)
    scheme = scheme_of(parameter, text)
    if scheme in S3_SCHEMES:  # parsed by hand: "?", "#" and "%" are ordinary characters in a key
        authority, slash, key = text.partition("://")[2].partition("/")
        conn_id, _, bucket = authority.rpartition("@")
        if not bucket:
            raise unusable(parameter, text, "which names no bucket. Write s3://bucket/key.")
        uri = f"s3://{authority}{slash}{key}"
        return Location("s3", uri, public(uri), parameter, bucket, key, conn_id or None)
    if scheme in URL_SCHEMES:
        text = text.strip()
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port  # reading the port checks it
        except ValueError:
            host = None
        if not host or re.search(r"\s", text):
            fault = "which is not a valid URL. Check its host and port, and encode its spaces."
            raise unusable(parameter, text, fault)
        return Location("url", text, public(text), parameter)
    if scheme and scheme != "file":
        location = Location("object", text, public(text), parameter)
        if scheme not in _KNOWN_STORES:
            with object_store(location):
                pass  # refuses a scheme that no installed provider knows
        return location
    if _NO_SCHEME.match(text):
        fix = f"Write {quoted(f'https:{text}')} for a URL, or start a local path with a single slash."
        raise unusable(parameter, text, f"which has no scheme. {fix}")
    path = _local_path(parameter, text, is_uri=scheme == "file")
    return Location("file", path, public(path), parameter)


def text_of(parameter: str, value: object) -> str:
    """Return the text of a parameter that is like a path. Spaces at its end stay, as a key may end in one."""
    # Airflow 3's ObjectStoragePath is not an os.PathLike; its own text keeps the connection id.
    if value is not None and not isinstance(value, str | os.PathLike) and not hasattr(value, "protocol"):
        raise SegmindInputError(
            f"{parameter} is {redact(repr(value), limit=_QUOTED)}, of type {type(value).__name__}. "
            "Give a string or a path."
        )
    # The text of a local ObjectStoragePath is not a URI: its "%" is not decoded.
    local = getattr(value, "protocol", None) in {"", "file", "local"}
    text = str(getattr(value, "path", value) if local else value).lstrip().rstrip("\r\n\t")
    if text.strip() in {"", "None"}:
        raise SegmindInputError(
            f"{parameter} is {value!r}. If it is a template, it rendered to nothing; if it is the XCom of an upstream "
            "task, that task returned nothing. Check where the value comes from."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise unusable(parameter, text, "which is not valid UTF-8. Rename the file.") from error
    return text


def scheme_of(parameter: str, text: str) -> str:
    """Return the lower-case scheme of a text, empty for a local path; refuse one without its slashes, ``s3:/b/k``."""
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    if match is None or match[2]:
        return scheme
    if scheme in S3_SCHEMES | URL_SCHEMES | _KNOWN_STORES | {"file"}:
        raise unusable(parameter, text, f"which lacks a slash. Write {scheme}:// with two slashes.")
    return ""  # a colon in the name of a file


def _local_path(parameter: str, text: str, *, is_uri: bool) -> str:
    path = text
    if is_uri:
        host, slash, rest = text[len("file://") :].partition("/")
        if host not in {"", "localhost"} or not slash:
            fix = "Write file:///folder/image.png, with three slashes."
            raise unusable(parameter, text, f"whose host is {host!r}. {fix}")
        path = "/" + unquote(rest)
    if "\0" in path:
        raise unusable(parameter, path, "which has a NUL in it. No path can.")
    if path.startswith("~"):
        folder = "/" if path.endswith("/") else ""  # pathlib drops the slash that marks a folder
        try:
            path = str(Path(path).expanduser()) + folder
        except RuntimeError as error:
            fault = "and there is no such home on this worker. Write the path in full."
            raise unusable(parameter, path, fault) from error
    if is_too_long(path):
        raise unusable(parameter, path, f"{len(path)} characters. Neither a path nor a name in it can be so long.")
    return path


def is_too_long(path: str) -> bool:
    """Return whether Linux can have no such path: its limits are 4096 bytes, and 255 for each name in it."""
    return len(os.fsencode(path)) >= 4096 or any(len(os.fsencode(name)) > 255 for name in path.split("/"))


@contextmanager
def open_file(path: str | os.PathLike[str], parameter: str) -> Iterator[BinaryIO]:
    """Open a local file for reading. Python's own errors name a path in full, so they are not chained to ours."""
    text = without_query(os.fspath(path))
    where = f"{parameter}: {text!r}"
    try:
        refuse_unless_file(Path(path), where)  # before it is opened: opening a pipe waits for its other end
        with Path(path).open("rb") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError):
        key = "" if text.startswith(("/", ".")) else f" If it is a key in S3, write s3://bucket/{text}."
        raise SegmindMissingFileError(
            f"{where}: no such file on this worker. Check the path, and that every worker sees that disk.{key}"
        ) from None
    except PermissionError:
        raise SegmindInputError(f"{where} cannot be read. Let the worker's user read it.") from None
    except OSError as error:
        raise SegmindStorageError(f"{where} cannot be read: {error.strerror or error}.") from None


def refuse_unless_file(path: Path, where: str) -> None:
    """Refuse a path at which there is a folder, a pipe or a device; ``where`` is how the error begins."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        reason = getattr(error, "strerror", error)
        raise SegmindInputError(f"{where} is not a path ({reason}). Give the path of a file.") from None
    if not stat.S_ISREG(mode):
        what = "a folder. Name a file in it" if stat.S_ISDIR(mode) else "not a regular file. Name one"
        raise SegmindInputError(f"{where} is {what}.")


@contextmanager
def object_store(location: Location) -> Iterator[tuple[Any, str]]:
    """Lend another object store's fsspec file system, and the path in it; convert what it raises meanwhile."""
    where = location.where
    try:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        path: Any = ObjectStoragePath(location.uri)  # untyped on some Airflow versions
        # Through path.fs, which is Airflow's: without a connection, the path's own methods use another one.
        found = path.fs, path.path
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        # A universal-pathlib that does not fit this Airflow fails with any of these.
        raise SegmindInputError(
            f"{where}: Airflow cannot open this store ({type(error).__name__}: {redact(error)}). Check the scheme and "
            "the connection, and install the store's provider with its fsspec extra and the universal-pathlib that "
            "Airflow's constraints name."
        ) from error
    try:
        yield found
    except (SegmindInputError, SegmindStorageError):
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SegmindMissingFileError(f"{where}: the store has no such object or bucket. Check the name.") from error
    except IsADirectoryError as error:
        raise SegmindInputError(f"{where} is a folder. Name an object in it.") from error
    except PermissionError as error:
        raise SegmindInputError(f"{where}: the store refused access. Check its connection.") from error
    except Exception as error:  # each fsspec implementation brings errors of its own
        raise SegmindStorageError(f"{where}: the store failed ({type(error).__name__}). Try again later.") from error


def public(text: str) -> str:
    """Return a path or URI without what may be secret: user or connection, query, and a URL's fragment."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return without_query(text)
    if scheme.lower() in URL_SCHEMES:
        parts = urlsplit(text)
        rest = parts.netloc + parts.path
    authority, slash, path = rest.partition("/")
    return without_query(f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}")


def without_query(text: str) -> str:
    """Replace what may be a signed query, also in a URL whose scheme is missing, by ``?...``."""
    return _QUERY.sub("?...", text)


def quoted(text: str) -> str:
    """Return a text as an error may quote it: without secrets, and short."""
    try:
        text = public(text)
    except ValueError:  # not a URL, but what follows a "?" may be a signature all the same
        text = text.partition("?")[0].rpartition("@")[2]
    text = _USER.sub(r"\1", text)
    return repr(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}...")


def unusable(parameter: str, text: str, fault: str) -> SegmindInputError:
    """Return the error about a value; ``fault`` goes on after the value and says what to do."""
    return SegmindInputError(f"{parameter} is {quoted(text)}, {fault}")
