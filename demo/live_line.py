"""A progress line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import Self, TextIO

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ASCII_SPINNER = "|/-\\"
ERASE = "\r\x1b[2K"


class LiveLine:
    """
    A line with the elapsed seconds and a text.

    On a terminal it is redrawn in place. Elsewhere each new text is printed on a line of its own.

    :param stream: where to write, standard output by default
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._on_terminal = self._stream.isatty()
        encoding = (getattr(self._stream, "encoding", None) or "ascii").lower()
        self._spinner = SPINNER if encoding.startswith("utf") else ASCII_SPINNER
        self._text = ""
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._painter = threading.Thread(target=self._paint_on, name="live-line", daemon=True)

    def __enter__(self) -> Self:
        if self._on_terminal:
            self._painter.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._painter.is_alive():
            self._ended.set()
            self._painter.join()
        with self._lock:
            self._text = ""
            if self._on_terminal:
                self._write(ERASE)

    def show(self, text: str) -> None:
        """
        Show a text.

        :param text: what is happening, in a few words
        """
        with self._lock:
            if text != self._text:
                self._text = text
                if not self._on_terminal:
                    self._write(f"{self._seconds()} {text}\n")

    def print(self, text: str) -> None:
        """
        Print lines above the progress line.

        :param text: the lines
        """
        with self._lock:
            self._write(f"{ERASE if self._on_terminal else ''}{text}\n")

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._started:6.1f} s "

    def _paint_on(self) -> None:
        tick = 0
        while not self._ended.wait(0.1):
            tick += 1
            with self._lock:
                if self._text:
                    line = f"{self._spinner[tick % len(self._spinner)]}{self._seconds()} {self._text}"
                    width = shutil.get_terminal_size().columns - 1
                    self._write(ERASE + line[:width])

    def _write(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()
