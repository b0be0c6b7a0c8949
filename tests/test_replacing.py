"""Files that take the place of older ones: complete, through no link, with their permissions."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geocd import replacing

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions and links of POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("older", [0o600, 0o640, 0o664, 0o444])
def test_what_is_replaced_gives_its_permissions(older: int, tmp_path: Path) -> None:
    for name in ("moved", "written"):
        (tmp_path / name).write_text("older")
        (tmp_path / name).chmod(older)
    (tmp_path / "source").write_text("newer")
    replacing.replace(tmp_path / "source", tmp_path / "moved")
    replacing.write(tmp_path / "written", b"newer")
    for name in ("moved", "written"):
        assert (tmp_path / name).read_text() == "newer"
        assert mode(tmp_path / name) == older
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved", "written"]


def test_a_new_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    replacing.write(tmp_path / "new", b"")
    assert mode(tmp_path / "new") == mode(tmp_path / "plain")


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("foreign")
    (tmp_path / "target").chmod(0o600)
    (tmp_path / "link").symlink_to("target")
    replacing.write(tmp_path / "link", b"newer")
    assert (tmp_path / "target").read_text() == "foreign"
    assert not (tmp_path / "link").is_symlink()
    assert mode(tmp_path / "link") == 0o600, "whoever hid the target wants no copy to be read"


def test_a_temporary_name_that_is_taken_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing.secrets, "token_hex", lambda count: "0" * 2 * count)
    (tmp_path / "foreign").write_text("foreign")
    (tmp_path / f"{replacing.TEMPORARY}{'0' * 16}").symlink_to("foreign")
    with pytest.raises(FileExistsError):
        replacing.write(tmp_path / "a", b"newer")
    assert (tmp_path / "foreign").read_text() == "foreign"


def test_a_group_that_cannot_be_kept_gains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0640 of a group of a few must not become 0640 of the group of all users."""
    older, new = tmp_path / "older", tmp_path / "new"
    for path, permissions in ((older, 0o644), (new, 0o644)):
        path.write_text("")
        path.chmod(permissions)

    def chown(*_: Any) -> None:
        raise PermissionError

    status: Callable[..., os.stat_result] = Path.stat

    def other_group(path: Path, **options: Any) -> os.stat_result:
        fields = list(status(path, **options))
        if path == older:
            fields[0] = stat.S_IFREG | 0o670
            fields[5] += 1
        return os.stat_result(fields)

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(Path, "stat", other_group)
    replacing.keep_permissions(older, new)
    monkeypatch.undo()
    assert mode(new) == 0o600
