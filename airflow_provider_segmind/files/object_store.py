"""Object stores other than S3, which Airflow opens through ObjectStoragePath and fsspec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.location import Location

# What fsspec's file systems tell of an object that changes when it is replaced, the most exact first.
_INFO_VERSIONS = ("generation", "ETag", "etag", "md5Hash", "mtime", "last_modified", "LastModified", "created")


def object_store(location: Location) -> tuple[Any, str]:
    """
    Return the fsspec file system of another object store's location, and the path in it.

    :raises SegmindInputError: the store cannot be opened in this installation, whatever a retry does
    """
    try:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        path: Any = ObjectStoragePath(location.uri)  # untyped on some Airflow versions
        # Through path.fs, which is Airflow's: without a connection, the path's own methods use another one.
        fs, name = path.fs, path.path
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise SegmindInputError(
            f"{location.where}: Airflow cannot open this store ({type(error).__name__}: {redact(error)}). Install its "
            "provider with the fsspec extra and the universal-pathlib that Airflow's constraints name, and check its "
            "connection."
        ) from error
    return fs, name


@contextmanager
def object_errors(location: Location) -> Iterator[None]:
    """
    Convert what a store's file system raises into what the user should do about it.

    :raises SegmindInputError: missing, forbidden, a folder, no provider for the scheme: the user must act
    :raises SegmindStorageError: anything else: a retry may succeed
    """
    try:
        yield
    except (SegmindInputError, SegmindStorageError):
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SegmindInputError(f"{location.where}: the store has no such object or bucket. Check the name.") from error
    except IsADirectoryError as error:
        raise SegmindInputError(f"{location.where} is a folder. Name an object in it.") from error
    except PermissionError as error:
        raise SegmindInputError(f"{location.where}: the store refused access. Check its connection.") from error
    except Exception as error:  # each fsspec implementation brings errors of its own
        raise SegmindStorageError(
            f"{location.where}: the store failed ({type(error).__name__}). Try again later."
        ) from error


def object_version(info: Mapping[str, Any]) -> str | None:
    """Return what changes when an object is replaced, ``None`` where its store does not tell."""
    name = next((name for name in _INFO_VERSIONS if info.get(name)), None)
    return None if name is None else f"{name}={info[name]} size={info.get('size')}"
