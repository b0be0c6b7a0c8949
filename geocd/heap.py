"""Free memory inside the process: when the C library keeps it, and when the system gets it back."""

from __future__ import annotations

import ctypes
import sys

#: By their numbers in glibc's malloc.h: bytes for M_TRIM_THRESHOLD (free memory to keep) and M_MMAP_THRESHOLD
#: (size from which arrays are requested from the system one by one), and M_ARENA_MAX: one heap for all
#: threads, since a heap of their own is given back whenever it is empty, which is after each tile.
_SETTINGS = {-1: 2**28, -3: 2**25, -8: 1}


def keep() -> None:
    """Let the C library keep the memory of one tile for the next.

    By itself it returns it, and every array of the next tile is requested from the system anew, page by page.
    dask starts its workers with ``MALLOC_TRIM_THRESHOLD_=65536``: that took a worker more time than the pair
    itself. Called where tiles are computed; :func:`release` returns the memory at the end.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            for parameter, value in _SETTINGS.items():
                mallopt(parameter, value)


def release() -> None:
    """Return memory that is free inside the process to the system, where the C library can do so.

    Otherwise it keeps what the fit has freed, some 100 MB, and the tiles, in other threads, use memory of
    their own.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
