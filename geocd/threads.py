"""Numbers of threads that belong to the process: one while a run computes, restored by the last to leave."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Shared:
    """A setting of the process that holds while any thread is inside :meth:`held`.

    Parameters
    ----------
    begin : callable
        Called by the first thread to enter; returns what the last one to leave calls.
    """

    def __init__(self, begin: Callable[[], Callable[[], object]]) -> None:
        self._begin = begin
        self._end: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._users = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the setting; use as a context."""
        with self._lock:
            if not self._users:
                self._end = self._begin()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._end()


def _limit_blas() -> Callable[[], object]:
    from threadpoolctl import threadpool_limits

    limits = threadpool_limits(1, user_api="blas")
    return lambda: limits.restore_original_limits()


_blas = Shared(_limit_blas)


def one_blas_thread() -> contextlib.AbstractContextManager[None]:
    """Limit BLAS to one thread; use as a context.

    The matrices of a run are narrow (as many columns as bands): the other threads find little to do, and spin
    while they wait for it. The setting belongs to the process: where several threads are inside at once, the
    last one to leave restores it.
    """
    return _blas.held()


__all__ = ["Shared", "one_blas_thread"]
