"""Threads of numpy's and scipy's linear algebra: one while a run computes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class _Limit:
    """How many threads are inside :func:`one_blas_thread`, and what restores the setting."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.restore = contextlib.ExitStack()


_limit = _Limit()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread; use as a context.

    The matrices of a run are narrow (as many columns as bands): the other threads find little to do, and spin
    while they wait for it. The setting belongs to the process: where several threads are inside at once, the
    last one to leave restores it.
    """
    from threadpoolctl import threadpool_limits

    with _limit.lock:
        if not _limit.users:
            _limit.restore.enter_context(threadpool_limits(1, user_api="blas"))
        _limit.users += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.users -= 1
            if not _limit.users:
                _limit.restore.close()
