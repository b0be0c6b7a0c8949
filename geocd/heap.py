"""Free memory inside the process: when the C library keeps it, and when the system gets it back."""

from __future__ import annotations

import ctypes
import os
import sys

#: Bytes for glibc's M_TRIM_THRESHOLD (free memory to keep) and M_MMAP_THRESHOLD (size from which arrays are
#: requested from the system one by one), by their numbers in malloc.h: the values that glibc adapts to.
_THRESHOLDS = {-1: 2**28, -3: 2**25}


def keep() -> None:
    """Let the C library keep the memory of one tile for the next, where the environment says otherwise.

    dask starts its workers with ``MALLOC_TRIM_THRESHOLD_=65536``. Every array of a tile is then requested
    from the system anew, page by page, which took a worker more time than the pair itself. Called where tiles
    are computed; :func:`release` returns the memory at the end.
    """
    if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            for parameter, size in _THRESHOLDS.items():
                mallopt(parameter, size)


def release() -> None:
    """Return memory that is free inside the process to the system, where the C library can do so.

    Otherwise it keeps what the fit has freed, some 100 MB, and the tiles, in other threads, use memory of
    their own.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
