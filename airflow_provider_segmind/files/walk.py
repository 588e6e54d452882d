"""What lies below a prefix of S3, of the worker's disk or of another object store: the names, by one listing."""

from __future__ import annotations

import os
from collections.abc import Iterator

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.location import Location, object_store
from airflow_provider_segmind.files.s3 import s3_errors
from airflow_provider_segmind.files.s3_client import s3_hook

STATE_FOLDER = "_segmind"
"""The folder below a batch's destination in which its ledger, journals and manifests are."""


def names_below(
    location: Location, *, aws_conn_id: str | None, start: str = "", depth: int | None = None, must_exist: bool = True
) -> Iterator[str]:
    """
    Yield the names of all files below a prefix, relative to it and in no order. Links to folders are not followed.

    What a batch keeps in ``_segmind/`` there is left out, as far as that saves going through it.

    :param location: a prefix that ends in ``/``, or a whole bucket
    :param start: how the names that the caller wants begin. S3 lists only these; elsewhere there may be others
    :param depth: how many parts these names have at most. S3 leaves out longer ones only where it is 1
    :param must_exist: refuse a local folder or another store's bucket that is not there, instead of yielding nothing.
        A bucket in S3 always has to exist
    """
    if location.kind == "s3":
        return _in_s3(location, aws_conn_id, start, depth)
    if location.kind == "file":
        return _on_disk(location, depth, must_exist=must_exist)
    return _in_store(location, depth, must_exist=must_exist)


def is_hidden(name: str) -> bool:
    """Return whether a relative name, or a folder in it, begins with a dot or is the state of a batch."""
    return any(part.startswith(".") or part == STATE_FOLDER for part in name.split("/"))


def _in_s3(location: Location, aws_conn_id: str | None, start: str, depth: int | None) -> Iterator[str]:
    # Without folders, S3 does not go through what is in them.
    options = {"Delimiter": "/"} if depth == 1 else {}
    state, after_state = f"{location.key}{STATE_FOLDER}/", f"{location.key}{STATE_FOLDER}0"  # "0" comes after "/"
    with s3_errors(location, aws_conn_id):
        client = s3_hook(location, aws_conn_id).get_conn()
        position: dict[str, str] | None = {}
        while position is not None:
            page = client.list_objects_v2(Bucket=location.bucket, Prefix=location.key + start, **options, **position)
            keys = [found["Key"] for found in page.get("Contents", ())]
            yield from (key[len(location.key) :] for key in keys if not key.startswith(state))
            if not page.get("IsTruncated"):
                position = None
            elif keys and keys[-1].startswith(state):
                position = {"StartAfter": after_state}  # a batch's state may have more objects than its results
            else:
                position = {"ContinuationToken": page["NextContinuationToken"]}


def _on_disk(location: Location, depth: int | None, *, must_exist: bool) -> Iterator[str]:
    root = location.uri

    def fail(error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            if error.filename != root or not must_exist:  # a folder that was removed since it was seen counts as empty
                return
            raise SegmindInputError(
                f"{location.where}: no such folder on this worker. Check the path, and that every worker sees that "
                "disk."
            ) from None
        # Python's own error names the path in full.
        if isinstance(error, PermissionError | NotADirectoryError):
            fix = "Give a folder that the worker's user may read, with all that is in it."
            raise SegmindInputError(f"{location.where} cannot be listed: {error.strerror}. {fix}") from None
        raise SegmindStorageError(f"{location.where} cannot be listed: {error.strerror or error}.") from None

    for folder, folders, files in os.walk(root, onerror=fail):
        if folder == root and STATE_FOLDER in folders:
            folders.remove(STATE_FOLDER)
        below = os.path.relpath(folder, root) + "/" if folder != root else ""
        if depth is not None and below.count("/") + 1 >= depth:
            folders.clear()
        yield from (below + name for name in files)


def _in_store(location: Location, depth: int | None, *, must_exist: bool) -> Iterator[str]:
    with object_store(location) as (fs, path):
        fs.invalidate_cache()  # some stores answer from an earlier listing
        root = path.strip("/") + "/" if path.strip("/") else ""
        found = fs.find(path.rstrip("/"), maxdepth=depth)
        if not found:
            _refuse_unlisted(fs, path.rstrip("/"), must_exist=must_exist)
        for name in found:
            inside = name.lstrip("/")
            if inside.startswith(root):
                yield inside[len(root) :]


def _refuse_unlisted(fs: object, path: str, *, must_exist: bool) -> None:
    """Raise what hindered a listing. ``find`` of fsspec takes what it may not read, or what is missing, for empty."""
    try:
        fs.ls(path, detail=False)  # type: ignore[attr-defined]  # fsspec has no types
    except FileNotFoundError:
        bucket = path.strip("/").partition("/")[0]
        if must_exist and not fs.exists(bucket):  # type: ignore[attr-defined]
            raise
