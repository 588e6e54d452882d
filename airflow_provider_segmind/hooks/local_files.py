"""Local files as the hook takes and leaves them."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from airflow_provider_segmind.api.media import HEAD, sniff
from airflow_provider_segmind.exceptions import SegmindInputError


@contextmanager
def appearing(target: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """
    Lend a file that appears at ``target`` whole when the block ends well, and not at all when it does not.

    A process killed in between leaves a hidden ``.part`` file beside it.
    """
    path = Path(target)
    try:
        handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed below, on each way out
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        )
    except OSError as error:
        raise SegmindInputError(f"target={str(path)!r} cannot be written: {error.strerror}.") from error
    try:
        with handle:
            yield cast(BinaryIO, handle)
            handle.flush()
            os.fsync(handle.fileno())
        Path(handle.name).replace(path)
    except BaseException:
        Path(handle.name).unlink(missing_ok=True)
        raise


def data_uri(path_or_bytes: str | os.PathLike[str] | bytes) -> str:
    """Return a file or bytes as the data URI that Segmind's storage takes."""
    if isinstance(path_or_bytes, bytes):
        data, name = path_or_bytes, f"{len(path_or_bytes)} bytes"
    else:
        name = repr(os.fspath(path_or_bytes))
        try:
            data = Path(path_or_bytes).read_bytes()
        except OSError as error:
            raise SegmindInputError(f"upload of {name}: {error.strerror}; give the path of a readable file.") from error
    kind = sniff(data[:HEAD])
    if kind is None:
        raise SegmindInputError(f"upload of {name}: it is no image, PDF or MP4 by its first bytes; give such a file.")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
