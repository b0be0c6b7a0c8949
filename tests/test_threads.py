from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from scipy import linalg
from threadpoolctl import threadpool_info, threadpool_limits

from geocd.config import Settings
from geocd.pipeline.prepared import computing
from geocd.threads import one_blas_thread


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads() -> Any:
    linalg.inv(np.eye(2))  # scipy has a BLAS of its own
    with threadpool_limits(2, user_api="blas"):
        yield


def test_blas_has_one_thread_inside_and_as_many_as_before_outside() -> None:
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_the_last_one_to_leave_restores_the_threads() -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(one_blas_thread())
    second.enter_context(one_blas_thread())
    first.close()
    assert blas_threads() == {1}
    second.close()
    assert blas_threads() == {2}


def test_an_error_restores_the_threads() -> None:
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        _ = 1 / 0
    assert blas_threads() == {2}


@pytest.mark.parametrize("method", ["deep", "irmad"])
def test_every_method_computes_with_one_blas_thread(method: Any) -> None:
    with computing(Settings.from_flat({"method": method}).resolved()):
        assert blas_threads() == {1}
