"""How the results of many images are named below one destination."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from string import Formatter

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.walk import STATE_FOLDER

DEFAULT_TEMPLATE = "{folder}/{stem}.{ext}"

_FIELDS = ("folder", "stem", "ext", "index")
_PADDING = re.compile(r"0[1-9][0-9]?d?")
_RESULT_SUFFIX = re.compile(r"\.(png|jpe?g|jpe|webp)$", re.IGNORECASE)
_OPEN = "\0"  # stands for the extension until the result is there; no name can have it
_LONGEST_EXTENSION = "webp"
_MAX_PART, _MAX_NAME = 255, 1024  # bytes: of a file's name on Linux, of a key in S3
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ResultName:
    """The name of a result relative to its destination; its extension is known when the result is there."""

    parts: tuple[str, ...]  # the text before, between and after each extension

    @property
    def key(self) -> str:
        """The same text for every extension: what two sources must not share."""
        return "{ext}".join(self.parts)

    def with_extension(self, extension: str) -> str:
        """Return the name with an extension, which is given with or without a dot: ``"cups/cup.png"``."""
        return extension.removeprefix(".").join(self.parts)


class NameTemplate:
    """
    The parameter ``name_template``, parsed: how a result is named below the destination.

    :param text: a relative path with ``{folder}`` (of the source below the listed prefix), ``{stem}`` (the source's
        name without extension), ``{index}`` (its position in the input from 0; ``{index:05}`` pads it with zeros) and
        ``{ext}`` (the result's extension without dot; appended where the template has none)
    """

    def __init__(self, text: str = DEFAULT_TEMPLATE) -> None:
        self.text = text
        self._pieces = _parse(text)
        if not any(field == "ext" for _, field, _ in self._pieces):
            if _RESULT_SUFFIX.search(text):
                suffix = text.rpartition(".")[2]
                fix = f"Write {{ext}} instead of {suffix}: what a result is shows when it is there."
                raise _unusable(text, f"ends in .{suffix}", fix)
            self._pieces += [(".", "ext", "")]

    def name(self, *, folder: str, stem: str, index: int) -> ResultName:
        """
        Return the name of one source's result.

        :param folder: the source's folder below the listed prefix, empty for none
        :raises SegmindInputError: the name is too long, or lies where a batch keeps its state
        """
        values: dict[str | None, object] = {
            "folder": _printable(folder),
            "stem": _printable(stem).replace("/", "_"),
            "ext": _OPEN,
            "index": index,
        }
        text = "".join(
            literal + (format(values[field], spec) if field else "") for literal, field, spec in self._pieces
        )
        # An empty folder leaves no slash, and no name can leave the destination.
        parts = [part.replace(".", "_") if part in (".", "..") else part for part in text.split("/") if part]
        name = ResultName(tuple("/".join(parts).split(_OPEN)))
        self._check(name)
        return name

    def _check(self, name: ResultName) -> None:
        longest = name.with_extension(_LONGEST_EXTENSION)
        given = f"gives the name {redact(longest, limit=120)!r}"
        if longest.partition("/")[0] == STATE_FOLDER:
            raise _unusable(self.text, given, f"The folder {STATE_FOLDER}/ is the batch's own. Name another folder.")
        if len(longest.encode()) > _MAX_NAME or any(len(part.encode()) > _MAX_PART for part in longest.split("/")):
            limits = f"{_MAX_NAME} bytes, and {_MAX_PART} for each part between slashes"
            fix = f"A name may have {limits}. Use {{index}} instead of a field that is too long."
            raise _unusable(self.text, f"{given}, {len(longest.encode())} bytes", fix)


def _parse(text: object) -> list[tuple[str, str | None, str]]:
    """Return the template's pieces: a literal text, the field after it and the field's format."""
    if not isinstance(text, str):
        fault = f"is of type {type(text).__name__}"
        raise _unusable(text, fault, f"Give a text such as {DEFAULT_TEMPLATE!r}.")
    try:
        pieces = [
            (literal, field, f"{spec or ''}{'!' + conversion if conversion else ''}")
            for literal, field, spec, conversion in Formatter().parse(text)
        ]
    except ValueError as error:
        raise _unusable(text, f"cannot be parsed ({error})", "Close each brace; write {{ for a brace itself.") from None
    known = ", ".join(f"{{{field}}}" for field in _FIELDS)
    for _, field, spec in pieces:
        if field is not None and field not in _FIELDS:
            raise _unusable(text, f"has the unknown field {{{field}}}", f"Known are {known}.")
        if spec and (field != "index" or not _PADDING.fullmatch(spec)):
            fault = f"has the format {spec!r} for {{{field}}}"
            raise _unusable(text, fault, "Only {index} takes one, as in {index:05}.")
    if not any(field in ("folder", "stem", "index") for _, field, _ in pieces):
        fix = "Use {stem}, {folder} or {index}."
        raise _unusable(text, "would give every result the same name", fix)
    literal_parts = text.split("/")
    if text.startswith("/") or "://" in text or {".", ".."} & set(literal_parts):
        raise _unusable(text, "leads out of the destination", "Give a path relative to it, without '..'.")
    if not literal_parts[-1]:
        raise _unusable(text, "ends in a slash", "Name the file too, as in {folder}/{stem}.{ext}.")
    if not text.isprintable():
        raise _unusable(text, "has a character that cannot be printed", "Leave it out.")
    return pieces


def find_name_conflicts(names: Iterable[tuple[str, str, ResultName]]) -> SegmindInputError | None:
    """
    Return the error about different sources whose results would have one name; ``None`` where there are none.

    :param names: for each source its label, what tells it from others (``ImageSource.address``), and its result's
        name. A source that is listed twice has one result and does not conflict with itself
    """
    first: dict[str, tuple[str, str]] = {}
    pairs: list[str] = []
    conflicts = 0
    for label, address, name in names:
        other_label, other_address = first.setdefault(name.key, (label, address))
        if other_address == address:
            continue
        conflicts += 1
        if len(pairs) < _SHOWN:
            ours = f"{label} (the same address with another query)" if label == other_label else label
            pairs.append(f"{name.key!r} for {other_label} and {ours}")
    if not conflicts:
        return None
    more = f"; and {conflicts - _SHOWN} more" if conflicts > _SHOWN else ""
    return SegmindInputError(
        f"Different images would get one name below the destination: {'; '.join(pairs)}{more}. Nothing was submitted. "
        "Tell them apart in name_template, by {folder} (for a listed prefix or glob) or {index}."
    )


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


def _unusable(text: object, fault: str, fix: str) -> SegmindInputError:
    return SegmindInputError(f"name_template {redact(repr(text), limit=120)} {fault}. {fix}")
