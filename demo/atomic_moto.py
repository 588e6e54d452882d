"""
moto's server, with conditional writes that are atomic as those of S3 are.

moto compares ``If-Match`` and ``If-None-Match`` with what is stored, and stores afterwards; another thread of the
server can store in between. Here one request at a time changes objects.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from moto.s3.responses import S3Response
from moto.server import main

CHANGES = ("put_object", "delete_object")
_lock = threading.Lock()


def _one_at_a_time(change: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(change)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        with _lock:
            return change(*arguments, **options)

    return wrapped


if __name__ == "__main__":
    for name in CHANGES:
        setattr(S3Response, name, _one_at_a_time(getattr(S3Response, name)))
    main()
