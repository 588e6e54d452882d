"""Destinations: where results go, what is stored there already, and a file that appears there whole or not at all."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.formats import extension_of
from airflow_provider_segmind.files.location import (
    Location,
    is_too_long,
    object_store,
    parse_location,
    refuse_unless_file,
    unusable,
    without_query,
)
from airflow_provider_segmind.files.naming import ResultName
from airflow_provider_segmind.files.provenance import (
    Provenance,
    StoredResult,
    as_sidecar,
    find_at,
    refuse_other_image,
    sidecar_of,
)
from airflow_provider_segmind.files.s3 import error_code, s3_errors, upload
from airflow_provider_segmind.files.s3_client import s3_hook
from airflow_provider_segmind.files.source import ImageSource
from airflow_provider_segmind.files.walk import STATE_FOLDER, names_below

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_MAX_WRITES = 4  # of one result while others write the same object at the same time
RESULT_EXTENSIONS = (".png", ".jpg", ".webp")
_LONGEST_EXTENSION = ".webp"
_MAX_KEY = 1024  # bytes, in S3
_SAME_EXTENSION = {".jpeg": ".jpg", ".jpe": ".jpg", ".tiff": ".tif"}


IfExists = Literal["overwrite", "skip"]
"""What to do about a result that stands at the destination already."""


@dataclass(frozen=True, slots=True)
class Destination:
    """
    Where results go: an object or a file, or a prefix that ends in ``/``, where each is named after its source.

    At a prefix, one image's result may have the name that a template gave it; see :meth:`named`.
    """

    location: Location
    is_prefix: bool
    result_name: ResultName | None = None
    existing: Collection[str] | None = field(default=None, repr=False, compare=False)

    @property
    def needs_stem(self) -> bool:
        """Whether the name of a result at this prefix is yet to be told."""
        return self.is_prefix and self.result_name is None

    def named(self, name: ResultName, existing: Collection[str] | None = None) -> Destination:
        """
        Return the destination of one image's result, which has this name below the prefix.

        The name is still derived from the source's, so another image's result there is never replaced.

        :param existing: what :func:`existing_names` returned: a name that is not in it is taken for absent without
            asking the store
        """
        longest = self.location.below(name.with_extension(_LONGEST_EXTENSION))
        if len(longest.key.encode()) > _MAX_KEY or (longest.kind == "file" and is_too_long(longest.uri)):
            fix = "Shorten name_template, or give a shorter prefix."
            raise unusable("destination", self.location.uri, f"below which {name.key!r} is too long a name. {fix}")
        return replace(self, result_name=name, existing=existing)

    def locate(self, *, stem: str, extension: str) -> Location:
        """Return the location of one result. A prefix needs its name, and its extension with or without a dot."""
        if not self.is_prefix:
            return self.location
        if self.result_name is not None:
            return self.location.below(self.result_name.with_extension(extension))
        return self.location.below(f"{stem.replace('/', '_')}.{extension.removeprefix('.')}")


def parse_destination(value: object) -> Destination:
    """Recognise a destination. Nothing is opened; a local path is only checked for being a folder."""
    location = parse_location("destination", value)
    if location.kind == "url":
        fix = "Write s3://bucket/key, a local path or another object store's URI."
        raise unusable("destination", location.uri, f"and a URL cannot be written to. {fix}")
    is_prefix = location.uri.endswith("/")
    if location.kind == "s3" and not location.key and not is_prefix:
        fix = "Write s3://bucket/key.png or s3://bucket/prefix/."
        raise unusable("destination", location.uri, f"which has no key. {fix}")
    if location.kind == "file" and not is_prefix and os.path.isdir(location.uri):  # noqa: PTH112 - pathlib's may raise
        fix = f"Write {location.uri + '/'!r} (as text, since a path object drops the slash), or name a file in it."
        raise SegmindInputError(f"destination is {location.uri!r}, a folder. {fix}")
    return Destination(location, is_prefix)


def check_destination(destination: Destination, *, aws_conn_id: str | None) -> None:
    """
    Refuse a destination that could not be written to, before anything is paid for. Nothing is written.

    What only a write can show (a policy that allows reading alone, a full disk) is not found here.

    S3 is asked even where ``if_exists`` does not need it, at a full name that is to be overwritten. That takes 0.14 s
    of CPU in a process that needs boto3 for nothing else, and 2 ms in one that has its client. Without it, each of a
    thousand tasks with a misspelt bucket would pay before the first one fails.
    """
    location = destination.location
    if location.kind == "s3":
        with s3_errors(location, aws_conn_id):
            from botocore.exceptions import ClientError  # type: ignore[import-untyped]

            try:
                s3_hook(location, aws_conn_id).get_conn().head_bucket(Bucket=location.bucket)
            except ClientError as error:
                # Who may write need not be allowed to list: only a missing bucket and a failing S3 count.
                if error_code(error)[0] not in (301, 400, 401, 403):
                    raise
    elif location.kind == "file":
        folder = Path(location.uri) if destination.is_prefix else Path(location.uri).parent
        while not os.path.lexists(folder) and folder != folder.parent:
            folder = folder.parent
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):  # noqa: PTH112 - as above
            raise SegmindInputError(
                f"{location.where} cannot be written: {without_query(str(folder))} is not a folder that the worker's "
                "user may write to. Give another path."
            )
    else:
        with object_store(location):
            pass  # the store's provider and its connection are there


def refuse_same_place(source: ImageSource, target: Location) -> None:
    """
    Refuse a result that would replace its own photo, whatever connection, link or spelling leads to it.

    A Clear would then pay for erasing what is erased already.
    """
    same = source.location.place == target.place
    if source.location.kind == target.kind == "file":
        same = os.path.realpath(source.location.uri) == os.path.realpath(target.uri)
    if same:
        raise SegmindInputError(f"{target.where} is the image itself, and would be lost. Name another folder or file.")


def find_stored(
    destination: Destination, stem: str | None, *, aws_conn_id: str | None, must_see: bool = False
) -> StoredResult | None:
    """Return what :func:`find_at` finds at a destination; at a prefix, with any extension of an image."""
    if not destination.is_prefix:
        return find_at(destination.location, aws_conn_id, must_see=must_see)
    if destination.needs_stem and not stem:
        return None
    name, existing, found = destination.result_name, destination.existing, None
    for extension in RESULT_EXTENSIONS:
        if name is not None and existing is not None and name.with_extension(extension) not in existing:
            continue
        location = destination.locate(stem=stem or "", extension=extension)
        stored = find_at(location, aws_conn_id, must_see=must_see)
        if stored is not None and stored.provenance is not None:
            return stored
        found = found or stored
    return found


def existing_names(destination: Destination, *, aws_conn_id: str | None, most: int | None = None) -> set[str] | None:
    """
    Return the names of all images below a prefix, relative to it, by one listing; what a batch keeps there is left out.

    It is as old as the moment it was made: what is stored later is only seen by the look that precedes a write.

    :param most: give up where there are more files than this
    :return: an empty set where the prefix is not there yet; ``None`` where there are too many, or the connection may
        not list the bucket, so that each name has to be asked for
    """
    names = set()
    try:
        found = names_below(destination.location, aws_conn_id=aws_conn_id, must_exist=False)
        for number, name in enumerate(found):
            if most is not None and number >= most:
                return None
            if name.endswith(RESULT_EXTENSIONS) and not name.startswith(f"{STATE_FOLDER}/"):
                names.add(name)
    except SegmindInputError as error:
        from botocore.exceptions import ClientError

        if isinstance(error.__cause__, ClientError) and error_code(error.__cause__)[0] == 403:
            return None
        raise
    return names


def store(
    file: BinaryIO,
    target: Location,
    *,
    content_type: str,
    provenance: Provenance,
    aws_conn_id: str | None,
    s3_extra_args: Mapping[str, Any] | None = None,
    derived: bool,
) -> None:
    """
    Stream a finished file to its destination.

    S3 shows the object whole or not at all, and a failed multipart upload is aborted; if the process is killed, its
    parts remain, invisible, until the bucket's lifecycle rule removes them. A local file is renamed into place.
    Another store does not get the content type; one that shows an object before it is closed (``memory``, ``sftp``)
    may show a part of it meanwhile, which is removed on failure unless it replaced something.

    :param file: complete and seekable; read from its start, and left open
    :param derived: the name was derived from the source's, so another image's result there is never replaced; an
        object of unknown provenance is (see :func:`refuse_other_image`)
    """
    written = os.path.splitext(target.uri)[1].lower()  # noqa: PTH122 - it is not always a path
    if written and _SAME_EXTENSION.get(written, written) != (fits := extension_of(content_type)) and fits != ".bin":
        log.warning("%s has the extension %s but is %s. Name it %s.", target.where, written, content_type, fits)
    file.seek(0)
    if target.kind == "s3":
        extra = {**(s3_extra_args or {}), "ContentType": content_type}
        _store_s3(file, target, provenance, aws_conn_id, extra, derived=derived)
    elif target.kind == "file":
        _store_file(file, target, provenance, derived=derived)
    else:
        _store_object(file, target, provenance, derived=derived)


def _store_s3(
    file: BinaryIO, target: Location, ours: Provenance, aws_conn_id: str | None, extra: dict[str, Any], *, derived: bool
) -> None:
    from botocore.exceptions import ClientError

    extra["Metadata"] = ours.as_metadata(extra.get("Metadata", {}))
    with s3_errors(target, aws_conn_id):
        hook = s3_hook(target, aws_conn_id, extra_args=extra)
    conditional = derived
    for _ in range(_MAX_WRITES):
        headers = {}
        if derived:
            stored = find_at(target, aws_conn_id)
            refuse_other_image(stored, ours)
            theirs = stored.provenance if stored else None
            if theirs and (theirs.request_id, theirs.sha256) == (ours.request_id, ours.sha256):
                return  # an attempt whose response was lost, or an earlier try, has stored it
            if conditional:
                headers = {"If-Match": stored.etag or "*"} if stored else {"If-None-Match": "*"}
        file.seek(0)
        with s3_errors(target, aws_conn_id):
            try:
                upload(hook, file, target, headers)
            except ClientError as error:
                status, code = error_code(error)
                if headers and (status == 501 or code == "NotImplemented"):
                    # This store has no conditional writes. What is written between the look and the upload is then
                    # replaced unseen; the look alone closes all but that moment.
                    conditional = False
                elif not headers or status not in (404, 409, 412) or code == "NoSuchBucket":
                    raise
            else:
                return
    if derived and find_at(target, aws_conn_id) is None:
        raise SegmindInputError(
            f"{target.where} is there already, and the connection may not read whose result it is. Allow it "
            "s3:GetObject, or give each result a name of its own."
        )
    raise SegmindStorageError(f"{target.where} is being written by others at the same time. Try again later.")


def _store_file(file: BinaryIO, target: Location, provenance: Provenance, *, derived: bool) -> None:
    with ExitStack() as lock:
        with write_atomically(target.uri, target.parameter) as copy:
            shutil.copyfileobj(file, copy, _CHUNK)
            _lock_folder(Path(target.uri).parent, lock)
            if derived:
                refuse_other_image(find_at(target, None), provenance)
        # A process that dies here leaves a result of unknown provenance. Its retry finds the checkpoint and stores both
        # again; without a checkpoint (before Airflow 3.3), if_exists="skip" does not recognise the result.
        with write_atomically(sidecar_of(target.uri), target.parameter) as sidecar:
            sidecar.write(as_sidecar(provenance, file.tell()))


def _lock_folder(folder: Path, lock: ExitStack) -> None:
    """
    Let only one process at a time look at a folder's files and replace them.

    Where a folder cannot be locked, as on NFS, a result that another process stores between the look and the rename
    is replaced unseen.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        lock.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextmanager
def write_atomically(target: str | os.PathLike[str], parameter: str = "target") -> Iterator[BinaryIO]:
    """
    Lend a file that appears at ``target`` whole when the block succeeds, and not at all when it fails.

    Missing folders are made. A process that is killed meanwhile leaves a hidden ``.part`` file beside the target.
    Python's own errors name a path in full, so they are not chained to ours.
    """
    path, where = Path(target), f"{parameter}: {without_query(os.fspath(target))!r}"
    if os.fspath(target).endswith("/"):
        raise SegmindInputError(f"{where} is a folder. Name a file in it.")
    # Not the target's name with a suffix: that may be as long as a name can be.
    part = path.parent / f".segmind-{secrets.token_hex(8)}.part"
    try:
        with suppress(FileNotFoundError):
            refuse_unless_file(path, where)
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
        fix = "Give a path that the worker's user may write to."
        raise SegmindInputError(f"{where} cannot be written: {error.strerror}. {fix}") from None
    except OSError as error:
        reason = error.strerror or error
        raise SegmindStorageError(f"{where} cannot be written: {reason}. Check the disk and retry.") from None


def _store_object(file: BinaryIO, target: Location, provenance: Provenance, *, derived: bool) -> None:
    with object_store(target) as (fs, name):
        if derived:
            # fsspec has no conditional writes: what is stored between this and the write is replaced unseen.
            refuse_other_image(find_at(target, None), provenance)
        replaces = fs.exists(name)
        try:
            out = fs.open(name, "wb")
        except FileNotFoundError:  # as sftp does: not every store makes the folders above an object by itself
            fs.makedirs(name.rpartition("/")[0], exist_ok=True)
            out = fs.open(name, "wb")
        try:
            shutil.copyfileobj(file, out, _CHUNK)
            out.close()
        except BaseException:
            # Neither close() nor the garbage collector may close it: on most stores that would publish the part.
            with suppress(Exception):
                out.discard()
            with suppress(Exception):
                out.closed = True
            if not replaces:
                with suppress(Exception):
                    fs.rm_file(name)
            raise
        fs.pipe_file(sidecar_of(name), as_sidecar(provenance, file.tell()))
