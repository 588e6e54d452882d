"""Threads for the inputs of a batch: a few at a time, each taken only when a thread is free for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each_in_threads(
    work: Callable[[T], R], next_one: Callable[[], T | None], threads: int
) -> Iterator[tuple[T, R | Exception]]:
    """
    Do the work for one thing after the other, and yield each with what came of it; an exception is yielded too.

    The threads share the caller's context, so an AWS connection that it has read is not read again by each of them.
    What is under way when the caller leaves is waited for: it may be paid for.

    :param next_one: returns the next thing, ``None`` where there is none now. It is asked again when something is done,
        and its answer is final when nothing is under way
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="segmind-batch") as pool:
        running: dict[Future[R], T] = {}
        while True:
            while len(running) < threads and (thing := next_one()) is not None:
                running[pool.submit(copy_context().run, work, thing)] = thing
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                thing = running.pop(future)
                error = future.exception()
                if error is not None and not isinstance(error, Exception):
                    raise error
                yield thing, future.result() if error is None else error
