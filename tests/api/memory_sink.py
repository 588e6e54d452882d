"""A result sink that keeps the file in memory and accepts exactly one content."""

from __future__ import annotations

import hashlib

from airflow_provider_segmind.api.models import SegmindFile
from airflow_provider_segmind.exceptions import SegmindOutputError


class MemorySink:
    """
    Takes a result file.

    :param usable: the only content that is a usable file; ``None``: any content is
    """

    def __init__(self, usable=None, max_bytes=10**6):
        self.usable = usable
        self.max_bytes = max_bytes
        self.declared = None
        self.begin({})

    def begin(self, headers):
        self.content = b""
        length = headers.get("content-length", "")
        self.expected = int(length) if length.isdecimal() and length.isascii() and len(length) < 20 else None
        self._check(self.expected or 0)

    def write(self, chunk):
        self.content += chunk
        self._check(self.size)

    def finish(self, declared):
        self.declared = declared
        if self.usable is not None and self.content != self.usable:
            raise ValueError("it is not the usable file")
        return SegmindFile(self.size, hashlib.sha256(self.content).hexdigest(), declared or "application/octet-stream")

    @property
    def size(self):
        return len(self.content)

    def _check(self, size):
        if size > self.max_bytes:
            raise SegmindOutputError("the file is too large")
