"""The files of one run: all of them or none, and nothing older lost."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from output_folder import NEW, OLD, SUFFIXES, contents, run, write_all

from geocd.errors import OutputError, OutputExistsError
from geocd.pipeline.transaction import Transaction
from geocd.report.products import Outputs


def test_commit_puts_all_in_place_and_leaves_nothing_else(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "x")
    with Transaction(outputs) as transaction:
        write_all(transaction, "new")
        assert not any(path.exists() for path in outputs.paths().values())
        files = transaction.commit()
    assert contents(tmp_path) == NEW
    assert files == outputs.paths()
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_only_what_was_written_is_returned(tmp_path: Path) -> None:
    with Transaction(Outputs(tmp_path / "x")) as transaction:
        write_all(transaction, "new", ["prob", "item"])
        assert set(transaction.commit()) == {"prob", "item"}
    assert contents(tmp_path) == {"x_prob.tif": "new", "x.json": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_on_error(error: type[BaseException], tmp_path: Path) -> None:
    def fail() -> None:
        with Transaction(Outputs(tmp_path / "x")) as transaction:
            write_all(transaction, "new")
            transaction.path("prob").with_suffix(".aux.xml").write_text("beside it")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_leaving_without_commit_leaves_nothing(tmp_path: Path) -> None:
    with Transaction(Outputs(tmp_path / "x")) as transaction:
        write_all(transaction, "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", SUFFIXES)
def test_existing_output_is_refused(key: str, tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "x")
    outputs.path(key).write_text("old")
    with pytest.raises(OutputExistsError, match=r"already exists\. Pass --overwrite") as caught:
        Transaction(outputs)
    assert outputs.path(key).name in str(caught.value)
    assert isinstance(caught.value, FileExistsError)
    assert contents(tmp_path) == {outputs.path(key).name: "old"}
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_a_run_that_has_ended_leaves_nothing_to_resume(old: Path) -> None:
    with pytest.raises(
        OutputExistsError, match=r"There is nothing to resume: .* has finished\. Pass --overwrite"
    ):
        Transaction(Outputs(old / "x"), resume=True)


def test_how_many_exist_is_said(old: Path) -> None:
    with pytest.raises(OutputExistsError, match=rf"\(and {len(SUFFIXES) - 1} more of this run's outputs\)"):
        Transaction(Outputs(old / "x"))


def test_another_stem_is_no_obstacle(old: Path) -> None:
    run(old / "y")
    assert contents(old) == OLD | {name.replace("x", "y", 1): "new" for name in NEW}


def test_overwrite_replaces_all(old: Path) -> None:
    with Transaction(Outputs(old / "x"), overwrite=True) as transaction:
        assert contents(old) == OLD
        write_all(transaction, "new")
        transaction.commit()
    assert contents(old) == NEW


def test_overwrite_leaves_no_mix_of_two_runs(old: Path) -> None:
    """An output that the new run does not write must not stay from the old one."""
    with Transaction(Outputs(old / "x"), overwrite=True) as transaction:
        write_all(transaction, "new", ["prob", "item"])
        transaction.commit()
    assert contents(old) == {"x_prob.tif": "new", "x.json": "new"}


def test_failed_run_keeps_the_old_results(old: Path) -> None:
    def fail() -> None:
        raise ValueError("bad scene")

    with pytest.raises(ValueError, match="bad scene"):
        run(old / "x", overwrite=True, then=fail)
    assert contents(old) == OLD


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    precious = tmp_path / "x.json" / "precious"
    precious.parent.mkdir()
    precious.write_text("kept")
    with pytest.raises(OutputError, match=r"x\.json: is a folder"):
        Transaction(Outputs(tmp_path / "x"), overwrite=True)
    assert contents(tmp_path) == {"x.json/precious": "kept"}


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "archive.tif"
    target.write_text("archived")
    (tmp_path / "x_prob.tif").symlink_to(target)
    (tmp_path / "x.json").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputExistsError):
        Transaction(Outputs(tmp_path / "x"))
    run(tmp_path / "x", overwrite=True)
    assert contents(tmp_path) == NEW | {"archive.tif": "archived"}
    assert not (tmp_path / "gone").exists()


def fail_at(
    monkeypatch: pytest.MonkeyPatch, calls: Callable[[int], bool], error: BaseException
) -> Callable[[], int]:
    """Let the n-th call of Path.replace fail where ``calls(n)`` says so; returns how many there were."""
    real = Path.replace
    count = 0

    def replace(self: Path, target: Any) -> Any:
        nonlocal count
        count += 1
        if calls(count):
            raise error
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    return lambda: count


DENIED = PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("number", range(1, 2 * len(SUFFIXES) + 1))
@pytest.mark.parametrize("error", [DENIED, KeyboardInterrupt()], ids=["denied", "interrupted"])
def test_failed_commit_rolls_back(
    number: int, error: BaseException, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever move fails: twelve of them, each old file away and each new one in."""
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    fail_at(monkeypatch, lambda n: n == number, error)
    with pytest.raises(expected) as caught:
        run(old / "x", overwrite=True)
    assert contents(old) == OLD
    if isinstance(caught.value, OutputError):
        name = list(OLD)[(number - 1) // 2]
        assert f"{name}: cannot be moved into place (Permission denied)" in str(caught.value)


@pytest.mark.parametrize("number", range(1, len(SUFFIXES) + 1))
def test_failed_commit_into_an_empty_folder_leaves_it_empty(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, lambda n: n == number, DENIED)
    with pytest.raises(OutputError, match="cannot be moved into place"):
        run(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", range(2, 2 * len(SUFFIXES) + 1))
def test_a_roll_back_that_fails_too_deletes_no_old_result(
    number: int, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk went read-only half-way: what cannot be moved back is kept, and the message says where."""
    fail_at(monkeypatch, lambda n: n >= number, DENIED)
    with pytest.raises(OutputError, match="older results are in") as caught:
        run(old / "x", overwrite=True)
    folder = Path(caught.value.details["kept"])
    assert str(folder) in str(caught.value)
    safe = [text for text in contents(old).values() if text == "old"]
    assert len(safe) == len(OLD)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"gone: no such folder for the outputs\. Create it"):
        Transaction(Outputs(tmp_path / "gone" / "x"))


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="no such folder"):
        Transaction(Outputs(tmp_path / "file" / "x"))


def test_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"name too long"):
        Transaction(Outputs(tmp_path / ("x" * 300)))


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere"
)
def test_unwritable_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(OutputError, match=r"sealed: cannot write into this folder \(Permission denied\)"):
            Transaction(Outputs(folder / "x"))
    finally:
        folder.chmod(stat.S_IRWXU)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_folder_that_takes_nothing(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for root, to whom every folder is writable."""

    def mkdir(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(OutputError, match=os.strerror(number)):
        Transaction(Outputs(tmp_path / "x"))


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    """The hidden folder is private; what comes out of it must not be."""
    run(tmp_path / "x")
    plain = tmp_path / "plain"
    plain.write_text("")
    assert (tmp_path / "x.json").stat().st_mode == plain.stat().st_mode


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    with Transaction(Outputs(tmp_path / "x")) as first:
        write_all(first, "first")
        with pytest.raises(OutputError, match=r"\.x\.geocd: another run is writing these outputs\. Wait"):
            Transaction(Outputs(tmp_path / "x"), overwrite=True)
        run(tmp_path / "y")
        first.commit()
    assert contents(tmp_path) == {f"x{suffix}": "first" for suffix in SUFFIXES.values()} | {
        name.replace("x", "y", 1): "new" for name in NEW
    }
    run(tmp_path / "x", overwrite=True)  # it has ended


def test_a_result_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """Somebody else's run finished while this one computed, and nobody said --overwrite."""
    with pytest.raises(OutputExistsError, match=r"x_prob\.tif: already exists"):
        run(tmp_path / "x", then=lambda: (tmp_path / "x_prob.tif").write_text("other"))
    assert contents(tmp_path) == {"x_prob.tif": "other"}


@pytest.mark.parametrize("number", range(1, 2 * len(SUFFIXES) + 1))
def test_killed_while_the_files_are_moved(number: int, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All were complete: the next run moves the rest first."""
    with monkeypatch.context() as patch:
        fail_at(patch, lambda n: n == number, KeyboardInterrupt())
        patch.setattr(Transaction, "_undo", lambda *_: os._exit)  # as if the process were gone
        patch.setattr(Path, "unlink", lambda *_: None)
        patch.setattr(Transaction, "_leave", lambda self: self._lock.close())
        with pytest.raises(KeyboardInterrupt):
            run(old / "x", overwrite=True)
    with pytest.raises(OutputExistsError, match=f"and {len(SUFFIXES) - 1} more"):
        Transaction(Outputs(old / "x"))
    assert contents(old) == NEW
    assert [p.name for p in old.iterdir() if p.is_dir()] == []


def test_older_results_that_could_not_be_put_back_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / ".x.geocd"
    folder.mkdir()
    (folder / "old-prob").write_text("precious")
    with pytest.raises(OutputError, match=r"\.x\.geocd: contains older results"):
        Transaction(Outputs(tmp_path / "x"), overwrite=True)
    assert contents(tmp_path) == {".x.geocd/old-prob": "precious"}


def test_replaced_results_that_cannot_be_deleted_do_not_stop_the_next_run(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def refuse(path: Any, *args: Any, **how: Any) -> None:
        if "old-" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        unlink(path, *args, **how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        patch.setattr(Path, "unlink", refuse)  # which in Python 3.10 does not look os.unlink up
        run(old / "x", overwrite=True)
    assert contents(old).items() >= NEW.items()
    assert (old / ".x.geocd").is_dir()
    run(old / "x", overwrite=True)
    assert contents(old) == NEW
    assert not (old / ".x.geocd").exists()


def test_once_all_is_in_place_nothing_fails_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = []

    def refuse(handle: int) -> None:
        monkeypatch.undo()
        os.close(handle)
        failed.append(handle)
        raise OSError(errno.EIO, "Input/output error")

    def when_moved() -> None:
        monkeypatch.setattr(os, "fsync", lambda handle: monkeypatch.setattr(os, "close", refuse))

    run(tmp_path / "x", then=when_moved)
    assert len(failed) == 1
    assert contents(tmp_path) == NEW


def unlisted(patch: pytest.MonkeyPatch) -> None:
    """Let no folder of a run be listed."""
    for where, name in ((Path, "iterdir"), (Path, "glob"), (os, "scandir")):
        real = getattr(where, name)

        def refuse(path: Any = ".", *args: Any, real: Callable[..., Any] = real) -> Any:
            if str(path).endswith(".geocd"):
                raise OSError(errno.EIO, "Input/output error", str(path))
            return real(path, *args)

        patch.setattr(where, name, refuse)


def test_a_folder_that_cannot_be_listed_is_named(old: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        unlisted(patch)
        with pytest.raises(OutputError, match=r"\.x\.geocd: cannot be written \(.*Input/output error"):
            run(old / "x", overwrite=True)
    assert contents(old).items() >= OLD.items()
    run(old / "x", overwrite=True)
    assert contents(old) == NEW


def test_a_folder_that_cannot_be_listed_at_the_end_is_left_to_the_next_run(old: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        run(old / "x", overwrite=True, then=lambda: unlisted(patch))
    assert contents(old).items() >= NEW.items()
    run(old / "x", overwrite=True)
    assert contents(old) == NEW


def test_a_commit_that_cannot_begin_is_told(old: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(OutputError, match=r"cannot be written .*No space left on device"),
    ):
        run(old / "x", overwrite=True, then=lambda: patch.setattr(Path, "touch", refuse))
    assert contents(old) == OLD


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_hidden_folder_that_is_a_link_is_refused_and_its_target_left_alone(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "1.jpg").write_text("precious")
    (tmp_path / ".x.geocd").symlink_to(photos)
    with pytest.raises(OutputError, match=r"\.x\.geocd: is a symbolic link to .*photos.*Remove the link"):
        run(tmp_path / "x", overwrite=True)
    assert contents(photos) == {"1.jpg": "precious"}
    assert [path.name for path in photos.iterdir()] == ["1.jpg"]  # not even a lock
    (tmp_path / ".x.geocd").unlink()
    run(tmp_path / "x")


@pytest.mark.parametrize("name", ["notes.txt", "x.txt", "x_prob", "folder/1.tile", "old-notes", "1.tile.bak"])
def test_a_hidden_folder_with_files_of_others_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / ".x.geocd" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    first = name.partition("/")[0]
    with pytest.raises(OutputError, match=rf"contains a file that geocd did not make \({first}\).* Move it"):
        run(tmp_path / "x", overwrite=True)
    assert contents(tmp_path) == {f".x.geocd/{name}": "precious"}
    assert not (tmp_path / ".x.geocd" / "lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
@pytest.mark.parametrize("name", ["lock", "commit", "x_prob.tif", "run.json", "1.tile"])
def test_links_in_the_hidden_folder_are_not_followed(name: str, tmp_path: Path) -> None:
    folder = tmp_path / ".x.geocd"
    folder.mkdir()
    (folder / name).symlink_to(tmp_path / "target")
    with pytest.raises(OutputError, match=rf"contains a symbolic link \({name}\)"):
        run(tmp_path / "x")
    assert not (tmp_path / "target").exists()


def test_a_file_that_was_put_into_the_hidden_folder_meanwhile_is_kept(tmp_path: Path) -> None:
    run(tmp_path / "x", then=lambda: (tmp_path / ".x.geocd" / "notes.txt").write_text("precious"))
    assert contents(tmp_path) == NEW | {".x.geocd/notes.txt": "precious"}


def test_what_a_run_that_was_killed_has_left_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / ".x.geocd"
    (folder / ".x_changes-ab12").mkdir(parents=True)
    names = ["lock", "run.json", "12.tile", "3.tile.140.part", "x_prob.tiles.tif", "x_prob.tif.ovr.tmp",
             "x_changes.gpkg-journal", "x.json", ".x_changes-ab12/x_changes.gpkg"]  # fmt: skip
    for name in names:
        (folder / name).write_text("left")
    run(tmp_path / "x")
    assert contents(tmp_path) == NEW
    assert not folder.exists()
