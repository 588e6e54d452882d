"""
Documents: small objects below a prefix that several processes agree by.

They are read and written whole. A write can be conditional: it fails where somebody else has written first. How much
that is worth depends on the store:

S3
    Its conditional writes decide; see ``files/s3_documents.py``.
local files
    A document appears by a hard link, which fails where there is a file, and is replaced while a lock file is locked.
other stores, and an S3 without conditional writes
    Best effort: read, write, and read back. Of two writers in the same moment both may believe to be the first.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.destination import write_atomically
from airflow_provider_segmind.files.document_store import Document, DocumentsBelow, DocumentStore
from airflow_provider_segmind.files.location import Location, object_store, parse_location, unusable
from airflow_provider_segmind.files.s3_documents import S3Documents

__all__ = ["Document", "DocumentStore", "FileDocuments", "ObjectDocuments", "open_documents", "parse_prefix"]

_LOCK = ".segmind.lock"
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


def parse_prefix(parameter: str, value: object) -> Location:
    """
    Recognise a prefix for documents. A missing ``/`` at its end is added; nothing is opened.

    :raises SegmindInputError: it is a URL, or a relative path, which each process would find somewhere else
    """
    location = parse_location(parameter, value)
    if location.kind == "url":
        fix = "Write s3://bucket/prefix/, file:///folder/ or another object store's URI."
        raise unusable(parameter, location.uri, f"and a URL cannot be written to. {fix}")
    if location.kind == "file" and not os.path.isabs(location.uri):  # noqa: PTH117 - it is text, and stays so
        fix = "Write the path in full, on a disk that all workers see, such as 'file:///shared/ledger/'."
        raise unusable(parameter, location.uri, f"a relative path, which is another folder for each process. {fix}")
    if location.uri.endswith("/"):
        return location
    key = f"{location.key}/" if location.key else ""
    return replace(location, uri=f"{location.uri}/", label=f"{location.label}/", key=key)


def open_documents(
    location: Location, *, aws_conn_id: str | None = None, s3_extra_args: Mapping[str, Any] | None = None
) -> DocumentStore:
    """
    Return the documents below a prefix. Nothing is opened yet.

    :param location: ends in ``/``; see :func:`parse_prefix`
    :param aws_conn_id: the connection to S3, unless the location names one; ``None`` for boto's default credentials
    :param s3_extra_args: upload arguments of boto3. Those that concern pictures, such as ``StorageClass``, do not apply
    """
    if location.kind == "s3":
        return S3Documents(location, aws_conn_id, s3_extra_args or {})
    return FileDocuments(location) if location.kind == "file" else ObjectDocuments(location)


class FileDocuments(DocumentsBelow):
    """
    Documents in a local folder, or on a disk that all workers see; see :class:`DocumentStore`.

    Where a disk has no hard links, a document is created under its own name, so its reader may see a part of it.
    """

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._base = Path(location.uri)

    def read(self, name: str) -> Document | None:
        """Return a document, ``None`` where neither it nor its folder is there."""
        with self._errors(name):
            try:
                data = (self._base / name).read_bytes()
            except FileNotFoundError:
                return None
            return Document(data, _digest(data))

    def create(self, name: str, data: bytes) -> str | None:
        """Write a new document."""
        path = self._base / name
        part = path.parent / f".segmind-{secrets.token_hex(8)}.part"
        with self._errors(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_new(part, data)
                try:
                    os.link(part, path)
                except FileExistsError:
                    # Over NFS this can be the repeated request of a link whose response was lost.
                    return _digest(data) if path.samefile(part) else None
                except OSError as error:
                    if error.errno not in _NO_LINKS:
                        raise
                    with suppress(FileExistsError):
                        _write_new(path, data)
                        return _digest(data)
                    return None
            finally:
                part.unlink(missing_ok=True)
            _sync(path.parent)
        return _digest(data)

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Write over a version."""
        with self._locked(name):
            present = self.read(name)
            if present is None or present.version != version:
                return None
            return self._overwrite(name, data)

    def write(self, name: str, data: bytes) -> str:
        """Write a document, and replace one of that name."""
        with self._locked(name):
            return self._overwrite(name, data)

    def _overwrite(self, name: str, data: bytes) -> str:
        with write_atomically(self._base / name, self._location.parameter) as file:
            file.write(data)
        _sync((self._base / name).parent)
        return _digest(data)

    def delete(self, name: str) -> None:
        """Delete a document, if there is one."""
        with self._locked(name):
            (self._base / name).unlink(missing_ok=True)

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with a text, sorted."""
        with self._errors(prefix):
            files = [path for path in self._base.rglob("*") if not path.name.startswith(".") and path.is_file()]
        names = (path.relative_to(self._base).as_posix() for path in files)
        return sorted(name for name in names if name.startswith(prefix))

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Let one process or thread at a time compare and replace documents. A lock file can be locked over NFS too."""
        with self._errors(name):
            self._base.mkdir(parents=True, exist_ok=True)
            with (self._base / _LOCK).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
                yield

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        where = f"{self._location.parameter}: {self.label_of(name)}"
        try:
            yield
        except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            fix = "Give a folder that the worker's user may write to."
            raise SegmindInputError(f"{where} cannot be read or written: {error.strerror}. {fix}") from None
        except OSError as error:
            raise SegmindStorageError(f"{where} cannot be read or written: {error.strerror or error}.") from None


class ObjectDocuments(DocumentsBelow):
    """
    Documents in another object store; see :class:`DocumentStore`. Its conditional writes are best effort.

    fsspec has none, so a document is read, written and read back: of two writers in the same moment, both may believe
    to be the first.
    """

    def read(self, name: str) -> Document | None:
        """Return a document."""
        with object_store(self._locate(name)) as (fs, path):
            try:
                data = fs.cat_file(path)
            except FileNotFoundError:
                return None
        return Document(data, _digest(data))

    def create(self, name: str, data: bytes) -> str | None:
        """Write a new document."""
        return None if self.read(name) else self._write_and_compare(name, data)

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Write over a version."""
        present = self.read(name)
        return self._write_and_compare(name, data) if present is not None and present.version == version else None

    def _write_and_compare(self, name: str, data: bytes) -> str | None:
        version, present = self.write(name, data), self.read(name)
        return version if present is not None and present.data == data else None

    def write(self, name: str, data: bytes) -> str:
        """Write a document, and replace one of that name."""
        with object_store(self._locate(name)) as (fs, path):
            try:
                fs.pipe_file(path, data)
            except FileNotFoundError:  # a store with folders, such as SFTP
                fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                fs.pipe_file(path, data)
        return _digest(data)

    def delete(self, name: str) -> None:
        """Delete a document, if there is one."""
        with object_store(self._locate(name)) as (fs, path), suppress(FileNotFoundError):
            fs.rm_file(path)

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with a text, sorted."""
        with object_store(self._location) as (fs, path):
            fs.invalidate_cache()  # another process may have written since the folder was last listed
            try:
                found = fs.find(path)
            except FileNotFoundError:
                found = []
        base = path.strip("/")
        names = (each.strip("/").removeprefix(base).lstrip("/") for each in found)
        return sorted(name for name in names if name and name.startswith(prefix))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the name of a new file outlast a power failure, where the disk can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
