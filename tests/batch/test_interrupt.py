"""A batch that is interrupted says what is kept, and how to go on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_folder import CVA, invoke, states

from geocd.batch.pairs import read_items
from geocd.batch.progress import Progress
from geocd.batch.run import Cluster
from geocd.batch.run import run as run_batch
from geocd.cli import batch as command_line
from geocd.cli import program
from geocd.errors import BatchInterrupted, Interrupted


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt, 130), (program._Terminated, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_finished_pairs_are_counted(
    error: type[BaseException],
    code: int,
    cluster: str,
    write_pairs: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(line: object, progress: Progress) -> None:
        if progress.done:
            raise error

    out = tmp_path / "out"
    command = ["batch", write_pairs(4), out, "--method", "cva", "--scheduler", cluster]
    with monkeypatch.context() as patch:
        patch.setattr(command_line._ProgressLine, "__call__", interrupt)
        result = invoke(*command)
    assert result.exit_code == code, result.output
    (said,) = re.findall(
        rf"interrupted: (\d) of 4 pairs are finished and kept in {re.escape(str(out))}; "
        "run the same command again to continue",
        result.stderr,
    )
    assert int(said) == list(states(out).values()).count("done") >= 1
    assert "nothing" not in result.stderr
    again = invoke(*command)
    assert again.exit_code == 0, again.output
    assert set(states(out).values()) == {"done"}
    if code == 143:  # while the changes are merged all pairs are finished
        monkeypatch.setattr("geocd.batch.archive.merge_changes", _raise)
        late = invoke(*command, "--merge")
        assert "interrupted: 4 of 4 pairs are finished and kept" in late.stderr


def _raise(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_python_api_says_so_too(cluster: str, write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(BatchInterrupted, match=r"0 of 2 pairs are finished and kept") as caught:
        run_batch(
            read_items(write_pairs(2)),
            tmp_path / "out",
            settings=CVA,
            cluster=Cluster(scheduler=cluster),
            progress=interrupt,
        )
    assert isinstance(caught.value, Interrupted)
    assert (caught.value.kept, caught.value.total) == (0, 2)
