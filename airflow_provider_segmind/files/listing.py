"""The images of a batch: a list as it is, or all that a prefix, a glob or a list file names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TypeGuard

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.destination import Destination
from airflow_provider_segmind.files.list_files import is_image_name, list_format, read_list_file
from airflow_provider_segmind.files.location import (
    URL_SCHEMES,
    Location,
    parse_location,
    public,
    quoted,
    scheme_of,
    text_of,
    unusable,
)
from airflow_provider_segmind.files.walk import is_hidden, names_below

_PARAMETER = "images"
_ACCEPTED = (
    "Give a list of images, a prefix that ends in '/', a glob such as s3://bucket/in/**/*.jpg, or a list file (.txt, "
    ".csv, .jsonl)."
)
_SLICE = 1000
_WILDCARD = re.compile(r"[*?\[]")
# How Airflow and Jinja render a list, an XCom or an object that a text field got.
_RENDERED = re.compile(r"\[.*\]|\(['\"].*\)|\{['\"].*\}|<.* at 0x\w+>|Lazy\w+\(.*\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image of a batch."""

    image: object  # what parse_image takes: the URI or path, or what the user put into a list, untouched
    folder: str = ""  # below the listed prefix or a glob's literal part, "2026/cups"; empty for lists
    problem: str | None = None  # why this entry cannot be an image, in the words of an error


@dataclass(frozen=True, slots=True)
class _Listing:
    """A prefix or a glob, parsed."""

    folder: Location  # that is listed: the prefix, or the folder before a glob's first wildcard
    patterns: tuple[str, ...] | None = None  # the glob below that folder, part by part; None for a prefix

    @property
    def start(self) -> str:
        """How every name that matches begins."""
        return _WILDCARD.split("/".join(self.patterns))[0] if self.patterns else ""

    @property
    def depth(self) -> int | None:
        """The number of parts of a name that matches, ``None`` for any."""
        return None if self.patterns is None or "**" in self.patterns else len(self.patterns)

    def takes(self, name: str) -> bool:
        """Return whether a name below the folder is an image that was asked for."""
        if is_hidden(name):
            return False
        if self.patterns is None:
            return is_image_name(name)
        *folders, last = self.patterns
        *above, file = name.split("/")
        if not _matches((*above, _with_lower_extension(file)), (*folders, _with_lower_extension(last))):
            return False
        # A glob that names an extension means it; another one means the images among what it matches.
        _, dot, extension = last.rpartition(".")
        return is_image_name(name) or bool(dot and extension and not _WILDCARD.search(extension))


def is_fixed_list(value: object) -> TypeGuard[Iterable[object]]:
    """Return whether a value holds the images themselves, as opposed to something that has to be listed or read."""
    others = (str, bytes, bytearray, memoryview, os.PathLike, Mapping, AbstractSet)
    return isinstance(value, Iterable) and not isinstance(value, others) and not hasattr(value, "protocol")


def check_images(value: object) -> None:
    """
    Refuse what is neither a list, a prefix, a glob nor a list file. Nothing is opened.

    The entries of a list are not checked: a bad one is that entry's problem, not the batch's.
    """
    if not is_fixed_list(value):
        _parse(value)


def list_images(value: object, *, aws_conn_id: str | None, destination: Destination | None = None) -> list[ListedImage]:
    """
    Return the images that a list, a prefix, a glob or a list file names; an empty list where there are none.

    A prefix is listed with all folders below it, sorted by name, and only for images (``.jpg``, ``.jpeg``, ``.jpe``,
    ``.png``, ``.webp``, in any case). What begins with a dot, as a file or a folder, is left out, and so is
    ``_segmind/``. In a glob, ``**`` stands for any number of folders; upper and lower case differ except in the
    extension.

    :param aws_conn_id: unless the URI names a connection, which the listed images' URIs then name too
    :param destination: where the results go. If that is a folder below the listed one, what is in it is left out, so
        that no run takes the results of another for photos
    :raises SegmindInputError: the bucket, folder or list file is missing, may not be read, or is not a list
    """
    if is_fixed_list(value):
        return [_given(image, index) for index, image in enumerate(_entries(value))]
    listing = _parse(value)
    if isinstance(listing, Location):
        return [ListedImage(*entry) for entry in read_list_file(listing, aws_conn_id=aws_conn_id)]
    folder = listing.folder
    results = _inside(destination.location, folder) if destination is not None and destination.is_prefix else None
    names = sorted(
        name
        for name in names_below(folder, aws_conn_id=aws_conn_id, start=listing.start, depth=listing.depth)
        if listing.takes(name) and not (results and name.startswith(results))
    )
    return [_found(folder, name) for name in names]


def refuse_listed_result(value: object, destination: Destination, result: Location) -> None:
    """
    Refuse a result that a later run would list as a photo, and pay for.

    :param value: the images as given
    :param result: where one of their results is to go
    """
    listing = None if is_fixed_list(value) else _parse(value)
    if not isinstance(listing, _Listing) or _inside(destination.location, listing.folder):
        return  # list_images leaves out what is below the destination
    name = _inside(result, listing.folder)
    if name and listing.takes(name):
        raise SegmindInputError(
            f"{result.where} lies among the images that are listed, so that the next run would pay for erasing a "
            f"result. Give a destination of its own, which may be a folder below {listing.folder.label}."
        )


def _entries(value: Iterable[object]) -> Iterator[object]:
    """Yield the entries of a list. That of a mapped task's XComs costs a request to Airflow for an entry or a slice."""
    if isinstance(value, list | tuple) or not isinstance(value, Sequence):
        yield from value
        return
    start = 0
    while part := value[start : start + _SLICE]:
        yield from part
        start += len(part)


def _given(image: object, index: int) -> ListedImage:
    try:
        text_of(f"{_PARAMETER}[{index}]", image)
    except SegmindInputError as error:
        return ListedImage(image, problem=str(error))
    return ListedImage(image)


def _found(folder: Location, name: str) -> ListedImage:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = folder.uri + name.encode(errors="replace").decode()
        return ListedImage(shown, problem=f"{_PARAMETER}: {shown} is not valid UTF-8. Rename the file.")
    return ListedImage(folder.uri + name, name.rpartition("/")[0])


def _parse(value: object) -> _Listing | Location:
    """Return what has to be listed, or the location of a list file."""
    if not isinstance(value, str | os.PathLike) and not hasattr(value, "protocol") and value is not None:
        what = "which has no order" if isinstance(value, AbstractSet) else "which cannot be listed"
        raise SegmindInputError(f"{_PARAMETER} is of type {type(value).__name__}, {what}. {_ACCEPTED}")
    text = text_of(_PARAMETER, value)
    if _RENDERED.fullmatch(text.strip()):
        raise SegmindInputError(
            f"{_PARAMETER} is the text {redact(repr(text), limit=60)}: a list that was rendered. Pass the list itself "
            "(task.output), or set render_template_as_native_obj=True for the DAG."
        )
    if "\n" in text.strip():
        raise unusable(_PARAMETER, text, f"several lines. {_ACCEPTED}")
    if text[:5].lower() == "data:":
        raise _one_image("a data URI")
    if scheme_of(_PARAMETER, text) in URL_SCHEMES:
        if is_image_name(text.partition("?")[0]):
            raise _one_image(quoted(text))
        raise unusable(_PARAMETER, text, f"and a URL cannot be listed. Put URLs into a list. {_ACCEPTED}")
    location = parse_location(_PARAMETER, value)
    path = location.key if location.kind == "s3" else location.uri
    bucket = location.bucket if location.kind == "s3" else _authority(location)
    if _WILDCARD.search(bucket):
        raise unusable(_PARAMETER, location.uri, f"whose bucket has a wildcard. Name one bucket. {_ACCEPTED}")
    if location.uri.endswith("/"):
        if "*" in path:
            raise unusable(_PARAMETER, location.uri, "a glob of folders. Add ** for all that is in them.")
        return _Listing(location)
    if list_format(path):
        if "*" in path:
            raise unusable(_PARAMETER, location.uri, "a glob of list files. Name one, or put the images into a list.")
        return location
    if _WILDCARD.search(path):
        return _parse_glob(location, path)
    if is_image_name(path):
        raise _one_image(quoted(location.uri))
    fix = f"For a prefix, write {quoted(location.uri + '/')} with a slash at its end"
    if not isinstance(value, str):
        fix += " as text, since a path object drops the slash"
    raise unusable(_PARAMETER, location.uri, f"neither a prefix nor a glob nor a list file. {fix}. {_ACCEPTED}")


def _parse_glob(location: Location, path: str) -> _Listing:
    """Split a glob after the last folder without a wildcard."""
    folder = "".join(_WILDCARD.split(path)[0].rpartition("/")[:2])
    pattern = path[len(folder) :]
    uri = location.uri.removesuffix(pattern) or "./"
    key = folder if location.kind == "s3" else ""
    return _Listing(replace(location, uri=uri, label=public(uri), key=key), tuple(pattern.split("/")))


def _authority(location: Location) -> str:
    return "" if location.kind == "file" else location.uri.partition("://")[2].partition("/")[0]


def _one_image(what: str) -> SegmindInputError:
    return SegmindInputError(
        f"{_PARAMETER} is {what}, a single image. Use BriaEraseForegroundOperator, or put it into a list."
    )


def _matches(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return _matches(parts, patterns[1:]) or (bool(parts) and _matches(parts[1:], patterns))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def _with_lower_extension(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    return f"{stem}{dot}{extension.lower()}" if dot else name


def _inside(inner: Location, outer: Location) -> str | None:
    """Return the path of a location relative to a folder, ``None`` where it is not in it; links are followed."""
    if inner.kind == outer.kind == "file":
        above, below = os.path.realpath(outer.uri), os.path.realpath(inner.uri)
    else:
        above, below = outer.place.rstrip("/"), inner.place
    start = f"{above.rstrip('/')}/"
    if not below.startswith(start):
        return None
    ending = "/" if inner.uri.endswith("/") and not below.endswith("/") else ""
    return below[len(start) :] + ending or None
