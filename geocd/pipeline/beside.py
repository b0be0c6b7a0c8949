"""Work beside the main thread of a run, where the run may use more than one processor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Start(Protocol):
    """Starts a call and returns a function that waits for its result."""

    def __call__(self, call: Callable[[], T]) -> Callable[[], T]:
        """Start ``call``, which takes nothing."""


@contextlib.contextmanager
def beside(jobs: int) -> Iterator[Start]:
    """Yield what starts calls in another thread, one after the other; use as a context.

    With one job, a call is made at once, in this thread. At the end of the context no call is running.
    """
    if jobs == 1:
        yield _made
        return
    pool = ThreadPoolExecutor(1, thread_name_prefix="geocd-beside")
    try:
        yield lambda call: pool.submit(call).result
    finally:
        pool.shutdown(cancel_futures=True)


def _made(call: Callable[[], T]) -> Callable[[], T]:
    """Make a call and return what returns its result."""
    result = call()
    return lambda: result


__all__ = ["Start", "beside"]
