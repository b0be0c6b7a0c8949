"""Devices: choosing one, threads, and what happens when there is no room."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from rasterio.windows import Window
from scipy import ndimage

from geocd.errors import DeviceError
from geocd.method import devices
from geocd.method.devices import CPU
from geocd.raster.pair import Chip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a run. On a busy machine, torch's threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_devices() -> None:
    assert devices.choose_device("cpu") == CPU
    assert devices.choose_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("cuda:99", "abacus"):
        with pytest.raises(DeviceError, match=f"{name}: no such device here"):
            devices.choose_device(name)


def test_cuda_computes_in_float32_and_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is put back
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        assert devices.choose_device("auto").type == "cuda"
        assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == (False, True, False)
        assert not matmul.allow_tf32
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
    finally:
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32 = before


def test_constants_are_made_once_and_freed_with_their_owner() -> None:
    made = []

    class Owner:
        """Something that is fitted."""

        def make(self) -> list[np.ndarray]:
            made.append(1)
            return [np.arange(3.0)]

    owner = Owner()
    (first,), (second,) = (devices.constants(owner, CPU, owner.make) for _ in range(2))
    assert first is second
    assert len(made) == 1
    freed = weakref.ref(first)
    del owner, first, second
    gc.collect()
    assert freed() is None


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with devices.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_threads_are_put_back_by_the_last_to_leave() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first, second = devices.one_thread(), devices.one_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_num_threads() == 1, "the second is still at work"
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


SCARCE = torch.device("meta")  # a device that nothing is put on here


def chip(height: int, width: int) -> Chip:
    before, after = np.random.default_rng(0).normal(size=(2, 4, height, width)).astype(np.float32)
    return Chip(before, after, np.ones((height, width), bool), Window(88, 160, width, height))


def mean_of_both(chip: Chip) -> np.ndarray:
    """Return two bands that depend on five pixels in each direction."""
    means = [ndimage.uniform_filter(date[0], 11, mode="constant") for date in (chip.before, chip.after)]
    return np.stack(means)


class Scarce:
    """A method on a device with room for so many pixels."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.seen: list[tuple[torch.device, tuple[int, ...]]] = []

    def __call__(self, chip: Chip, device: torch.device) -> np.ndarray:
        self.seen.append((device, chip.valid.shape))
        if device == SCARCE and chip.valid.size > self.room:
            raise torch.OutOfMemoryError("no room")
        # where a part is: what strides and seeds begin at
        place = chip.window.row_off * 1000 + chip.window.col_off
        rows, cols = np.indices(chip.valid.shape)
        return np.concatenate([mean_of_both(chip), (place + rows * 1000 + cols)[None].astype(np.float32)])


@pytest.mark.parametrize("size", [(512, 320), (320, 512), (512, 512)])
def test_without_room_the_pieces_give_the_same(
    size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    compute, whole = Scarce(200 * 300), chip(*size)
    found = devices.in_room(compute, whole, SCARCE, margin=5)
    assert len(compute.seen) > 3
    assert {device for device, _ in compute.seen} == {SCARCE}
    assert np.array_equal(found, Scarce(0)(whole, CPU))
    assert "computed in two halves" in caplog.text


@pytest.mark.parametrize(("size", "margin"), [((96, 96), 5), ((250, 100), 5), ((300, 290), 200)])
def test_without_room_for_a_small_piece_the_cpu_computes(
    size: tuple[int, int], margin: int, caplog: pytest.LogCaptureFixture
) -> None:
    compute, whole = Scarce(100), chip(*size)
    found = devices.in_room(compute, whole, SCARCE, margin=margin)
    assert compute.seen == [(SCARCE, size), (CPU, size)]
    assert "computed on the CPU" in caplog.text
    assert np.array_equal(found, Scarce(0)(whole, CPU))


def test_without_room_anywhere_the_error_is_told() -> None:
    def compute(chip: Chip, device: torch.device) -> np.ndarray:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        devices.in_room(compute, chip(300, 300), SCARCE, margin=5)


def test_what_is_sent_is_what_was_there() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, :, ::-1]
    assert np.array_equal(devices.sent(values, CPU), values)
    values.setflags(write=False)  # as dask gives them
    assert np.array_equal(devices.sent(values, CPU), values)
    assert devices.sent(np.array([True, False]), CPU).dtype == torch.bool


def test_a_network_is_copied_once_to_each_device() -> None:
    network = torch.nn.Conv2d(1, 1, 1)
    assert devices.on_device(network, CPU) is network
    copy = devices.on_device(network, SCARCE)
    assert next(copy.parameters()).device == SCARCE
    assert devices.on_device(network, SCARCE) is copy
    assert next(network.parameters()).device == CPU
