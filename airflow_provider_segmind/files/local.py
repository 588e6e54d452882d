"""
Files on this machine: opened to be sent, and made to appear whole or not at all.

What Python raises of a path names it in full, signature and all, so no error here is chained to it.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.formats import HEAD, sniff

MAX_UPLOAD_BYTES = 100 << 20
"""What Segmind's storage is given at most."""

_QUERY = re.compile(r"\?(?=.*=).*", re.DOTALL)


def without_query(text: str, mark: str = "?...") -> str:
    """
    Cut what may be a signed query, as a URL has it whose scheme was forgotten.

    :param mark: what stands in its place
    """
    return _QUERY.sub(mark, text)


@contextmanager
def opened(path: str | os.PathLike[str], parameter: str) -> Iterator[BinaryIO]:
    """
    Open a local file to be read.

    :param parameter: what errors call the path
    :raises SegmindInputError: it is missing, unreadable, a folder or no regular file
    :raises SegmindStorageError: the disk fails
    """
    where = f"{parameter}: {without_query(os.fspath(path))!r}"
    try:
        _refuse_unless_file(Path(path), where)  # before it is opened: to open a pipe is to wait for its other end
        with Path(path).open("rb") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError):
        raise SegmindInputError(
            f"{where}: no such file on this worker: check the path, and that each worker sees that disk"
        ) from None
    except PermissionError:
        raise SegmindInputError(f"{where} may not be read: let the worker's user read it") from None
    except OSError as error:
        raise SegmindStorageError(f"{where} cannot be read: {error.strerror or error}") from None


@contextmanager
def appearing(target: str | os.PathLike[str], parameter: str = "target") -> Iterator[BinaryIO]:
    """
    Lend a file that appears at ``target`` whole when the block ends well, and not at all when it does not.

    Missing folders are made. A process killed in between leaves a hidden ``.part`` file beside the target.

    :param target: a file's path; what is there is replaced
    :param parameter: what errors call it
    :raises SegmindInputError: before the block: no file can be there, or the worker's user may not write it
    :raises SegmindStorageError: the disk is full or fails
    """
    path, where = Path(target), f"{parameter}: {without_query(os.fspath(target))!r}"
    if os.fspath(target).endswith("/"):
        raise SegmindInputError(f"{where} is a folder: name a file in it")
    # A short name of its own: the target's may be as long as a name can be.
    part = path.parent / f".segmind-{secrets.token_hex(8)}.part"
    try:
        with suppress(FileNotFoundError):
            _refuse_unless_file(path, where)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise SegmindInputError(
            f"{where} cannot be written: {error.strerror}: give a path that the worker's user may write to"
        ) from None
    except OSError as error:
        raise SegmindStorageError(
            f"{where} cannot be written: {error.strerror or error}: mend the disk and retry"
        ) from None


def _refuse_unless_file(path: Path, where: str) -> None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        raise SegmindInputError(f"{where} is no path ({getattr(error, 'strerror', error)}): give a file's") from None
    if not stat.S_ISREG(mode):
        what = "a folder: name a file in it" if stat.S_ISDIR(mode) else "no regular file: name one"
        raise SegmindInputError(f"{where} is {what}")


def data_uri(path_or_bytes: str | os.PathLike[str] | bytes | bytearray | memoryview) -> str:
    """
    Return a file or bytes as the data URI that Segmind's storage takes.

    :raises SegmindInputError: it is neither a readable file nor bytes, too large, or of no known media type
    """
    parameter = "path_or_bytes"
    if isinstance(path_or_bytes, bytes | bytearray | memoryview):
        data, name = bytes(path_or_bytes), f"{len(path_or_bytes)} bytes"
    elif isinstance(path_or_bytes, str | os.PathLike):
        name = repr(without_query(os.fspath(path_or_bytes)))
        with opened(path_or_bytes, parameter) as file:
            data = file.read(MAX_UPLOAD_BYTES + 1)
    else:
        raise SegmindInputError(
            f"{parameter} is {redact(repr(path_or_bytes), limit=60)}, a {type(path_or_bytes).__name__}: give a file's "
            "path, or its bytes"
        )
    if len(data) > MAX_UPLOAD_BYTES:
        raise SegmindInputError(f"{parameter}: {name} is larger than {MAX_UPLOAD_BYTES >> 20} MiB: make it smaller")
    kind = sniff(data[:HEAD])
    if kind is None:
        raise SegmindInputError(f"{parameter}: {name} is no image, PDF or MP4 by its first bytes: give such a file")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
