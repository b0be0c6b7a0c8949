from __future__ import annotations

import threading
import time

import pytest

from geocd.pipeline.beside import beside


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_and_errors_arrive(jobs: int) -> None:
    with beside(jobs) as start:
        three = start(lambda: 1 + 2)
        assert three() == 3
        with pytest.raises(ZeroDivisionError):
            start(lambda: 1 // 0)()


def test_with_one_job_a_call_is_made_at_once() -> None:
    """What it holds is free by the time that its result is asked for."""
    made: list[int] = []
    with beside(1) as start:
        result = start(lambda: made.append(1))
        assert made == [1]
        assert result() is None
    assert made == [1]


def test_one_job_is_one_thread() -> None:
    with beside(1) as start:
        assert start(threading.get_ident)() == threading.get_ident()
    with beside(2) as start:
        assert start(threading.get_ident)() != threading.get_ident()


def test_nothing_runs_after_an_error() -> None:
    done: list[int] = []

    def work() -> None:
        time.sleep(0.2)
        done.append(1)

    def interrupted() -> None:
        with beside(2) as start:
            start(work)
            start(work)
            time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == [1]
    assert "geocd-beside" not in " ".join(thread.name for thread in threading.enumerate())
