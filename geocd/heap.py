"""Memory that the C library keeps, and when it gives it back."""

from __future__ import annotations

import ctypes
import os
import sys

#: Bytes for glibc's M_TRIM_THRESHOLD (free memory that is not given back) and M_MMAP_THRESHOLD (arrays that
#: are taken from the system one by one), by their numbers in malloc.h: what it comes to by itself.
_KEPT = {-1: 2**28, -3: 2**25}


def keep() -> None:
    """Let the C library keep what one tile gives back for the next, where it was asked not to.

    dask starts its workers with ``MALLOC_TRIM_THRESHOLD_=65536``. Every array of a tile is then taken from
    the system anew, page by page: a worker spent more time there than on the pair. Called where tiles are
    computed; :func:`release` gives the memory back at the end.
    """
    if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            for parameter, size in _KEPT.items():
                mallopt(parameter, size)


def release() -> None:
    """Give memory that is free inside the process back to the system, where that can be asked for.

    The C library keeps what the fit has freed, some 100 MB, and the tiles, in other threads, take theirs from
    elsewhere.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
