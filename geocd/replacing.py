"""Files that take the place of older ones: complete, through no link, with the older one's permissions."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

#: What the names of temporary files begin with; 16 hexadecimal digits follow.
TEMPORARY = ".geocd-"


def keep_permissions(older: Path, new: Path) -> None:
    """Give a file the permissions of the one that it is to replace and, where the system allows, its owner.

    Where the group cannot be kept, the new group may do what others may. Nothing happens where there is no
    older file.

    Parameters
    ----------
    older : pathlib.Path
        The target counts where it is a link.
    new : pathlib.Path
    """
    with contextlib.suppress(OSError):  # none, or a file system without permissions
        before, now = older.stat(), new.stat()
        mode = stat.S_IMODE(before.st_mode) & 0o777
        if hasattr(os, "chown") and (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
            try:
                os.chown(new, -1, before.st_gid)
            except OSError:
                mode = mode & ~0o070 | (mode & 0o007) << 3
            with contextlib.suppress(OSError):
                os.chown(new, before.st_uid, -1)
        new.chmod(mode)


def replace(source: Path, target: Path) -> None:
    """Move a complete file to its name; an older file there is replaced, and its permissions are kept."""
    keep_permissions(target, source)
    source.replace(target)


def write(path: Path, content: bytes) -> None:
    """Write a file that appears when it is complete, and keeps the permissions of an older one.

    The temporary file beside it is new: a link of its name is not followed, and no file is written over.
    """
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            keep_permissions(path, temporary)
            file.write(content)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


__all__ = ["TEMPORARY", "keep_permissions", "replace", "write"]
