"""The memory of this machine, and how much of it this process may take."""

from __future__ import annotations

import os
from pathlib import Path


def memory() -> tuple[int | None, int | None]:
    """Return the memory of the machine and how much of it is free, in MB; None where unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        values = {name: int(rest.split()[0]) // 1024 for name, rest in (line.split(":") for line in lines)}
        return values["MemTotal"], values["MemAvailable"]
    except (OSError, ValueError, KeyError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20, None
    except (AttributeError, ValueError, OSError):  # Windows
        return None, None


def memory_limit() -> int | None:
    """Return the memory that the innermost container or job allows, in MB; None where there is no limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if limit < 2**60:
            return limit // 2**20
    return None


def usable_memory() -> int | None:
    """Return the memory that this process could take if it were alone, in MB; None where unknown."""
    sizes = [size for size in (memory()[0], memory_limit()) if size is not None]
    return min(sizes, default=None)
