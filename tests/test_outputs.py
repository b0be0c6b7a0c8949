"""The files of one run: all of them or none, and nothing older lost."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geocd.errors import OutputError, OutputExistsError
from geocd.outputs import SUFFIXES, Outputs, Transaction, default_stem


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its text."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_all(transaction: Transaction, text: str, keys: Any = tuple(SUFFIXES)) -> None:
    for key in keys:
        transaction.path(key).write_text(text)


def run(stem: Path, *, overwrite: bool = False, then: Callable[[], object] = lambda: None) -> None:
    """Write all outputs, do something else, commit."""
    with Transaction(Outputs(stem), overwrite=overwrite) as transaction:
        write_all(transaction, "new")
        then()
        transaction.commit()


NEW = {f"x{suffix}": "new" for suffix in SUFFIXES.values()}
OLD = {f"x{suffix}": "old" for suffix in SUFFIXES.values()}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with all outputs of an earlier run."""
    for name in OLD:
        (tmp_path / name).write_text("old")
    return tmp_path


@pytest.mark.parametrize(
    ("before", "after", "stem"),
    [
        ("a.tif", "b.tif", "a_b"),
        ("/data/2019/a.tif", "../b.TIFF", "a_b"),
        ("s3://bucket/2019/a.tif", "https://host/b.tif", "a_b"),
        ("/vsizip/pack.zip/a.tif", "zip://pack.zip!b.tif", "a_b"),
        ("a.b.tif", "c", "a.b_c"),
        ("folder/", "b.tif", "folder_b"),
        ("https://host/a.tif?sig=x%2Fy&n=1", "b.tif", "a_b"),
        ("NETCDF:scene.nc:B04", "b.tif", "B04_b"),
    ],
)
def test_default_stem(before: str, after: str, stem: str) -> None:
    assert default_stem(before, after) == Path(stem)


def test_names(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "pair.v1")
    assert outputs.path("prob") == tmp_path / "pair.v1_prob.tif"
    assert outputs.path("item") == tmp_path / "pair.v1.json"
    names = [path.name for path in outputs.paths().values()]
    assert len(set(names)) == len(names)
    # QGIS looks for <stem>.qml: a style must belong to exactly one layer.
    for style, layer in (("prob_style", "prob"), ("changes_style", "changes")):
        assert outputs.path(style).stem == outputs.path(layer).stem


@pytest.mark.parametrize("stem", ["", ".", "..", "/", "folder/.."])
def test_a_stem_needs_a_name(stem: str) -> None:
    with pytest.raises(OutputError, match=r"no name for the outputs.*--output"):
        Outputs(Path(stem))


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
    with pytest.raises(OutputExistsError, match=r"exists already\. Pass --overwrite") as caught:
        Transaction(outputs)
    assert outputs.path(key).name in str(caught.value)
    assert isinstance(caught.value, FileExistsError)
    assert contents(tmp_path) == {outputs.path(key).name: "old"}
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_how_many_exist_is_said(old: Path) -> None:
    with pytest.raises(OutputExistsError, match=r"\(and 5 more of this run's outputs\)"):
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
        assert f"{name}: cannot be put in place (Permission denied)" in str(caught.value)


@pytest.mark.parametrize("number", range(1, len(SUFFIXES) + 1))
def test_failed_commit_into_an_empty_folder_leaves_it_empty(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, lambda n: n == number, DENIED)
    with pytest.raises(OutputError, match="cannot be put in place"):
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

    def mkdtemp(*_: Any, **__: Any) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.mkdtemp", mkdtemp)
    with pytest.raises(OutputError, match=os.strerror(number)):
        Transaction(Outputs(tmp_path / "x"))


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    """The hidden folder is private; what comes out of it must not be."""
    run(tmp_path / "x")
    plain = tmp_path / "plain"
    plain.write_text("")
    assert (tmp_path / "x.json").stat().st_mode == plain.stat().st_mode


def test_two_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    with Transaction(Outputs(tmp_path / "x")) as one, Transaction(Outputs(tmp_path / "x")) as two:
        assert one.path("prob") != two.path("prob")
        write_all(one, "one")
        write_all(two, "two")
        one.commit()
        two_files = two.path("prob").read_text()
    assert two_files == "two"
    assert set(contents(tmp_path).values()) == {"one"}


def test_a_result_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """Somebody else's run finished while this one computed, and nobody said --overwrite."""
    with pytest.raises(OutputExistsError, match=r"x_prob\.tif: exists already"):
        run(tmp_path / "x", then=lambda: (tmp_path / "x_prob.tif").write_text("other"))
    assert contents(tmp_path) == {"x_prob.tif": "other"}
