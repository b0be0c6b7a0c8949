"""Devices: choosing one, threads, and what happens when there is no room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from geocd import devices
from geocd.errors import DeviceError
from geocd.networks import CompactPair, initialise

CPU = torch.device("cpu")


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


class Scarce(CompactPair):
    """Networks on a device with room for so many pixels."""

    def __init__(self, room: int, *, everywhere: bool) -> None:
        super().__init__()
        initialise(self, torch.Generator().manual_seed(3))
        self.room, self.everywhere, self.seen = room, everywhere, []  # type: ignore[var-annotated]

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        self.seen.append(tuple(x1.shape[-2:]))
        if x1.shape[-2] * x1.shape[-1] > self.room:
            raise torch.OutOfMemoryError("no room")
        return super().forward(x1, x2)

    def __deepcopy__(self, memo: dict[int, object]) -> nn.Module:
        """What is copied to the CPU has room."""
        copied = Scarce(10**9 if not self.everywhere else self.room, everywhere=self.everywhere)
        copied.load_state_dict(self.state_dict())
        return copied


def whole(network: CompactPair, dates: list[Tensor]) -> Tensor:
    with torch.inference_mode():
        return CompactPair.forward(network, *dates)


@pytest.mark.parametrize("size", [(512, 320), (320, 512), (512, 512)])
def test_without_room_the_pieces_give_the_same(
    size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    network = Scarce(200 * 300, everywhere=True)
    dates = [torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(k)) for k in (0, 1)]
    found = devices.infer(network, dates, CPU, margin=CompactPair.MARGIN, stride=CompactPair.STRIDE)
    assert len(network.seen) > 3
    network.room = 10**9
    assert torch.allclose(found, whole(network, dates), atol=1e-4)
    assert "computed in two halves" in caplog.text


def test_without_room_for_a_small_piece_the_cpu_computes(caplog: pytest.LogCaptureFixture) -> None:
    network = Scarce(100, everywhere=False)
    dates = [torch.randn(1, 4, 96, 96) for _ in range(2)]
    found = devices.infer(network, dates, CPU, margin=CompactPair.MARGIN, stride=CompactPair.STRIDE)
    assert "computed on the CPU" in caplog.text
    network.room = 10**9
    assert torch.equal(found, whole(network, dates))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives() -> None:
    network = CompactPair()
    initialise(network, torch.Generator().manual_seed(3))
    dates = [torch.randn(1, 4, 160, 160, generator=torch.Generator().manual_seed(k)) for k in (0, 1)]
    on_cpu = devices.infer(network, dates, CPU, margin=40, stride=8)
    cuda = torch.device("cuda")
    on_cuda = devices.infer(network.to(cuda), dates, cuda, margin=40, stride=8)
    # bfloat16 has 8 bits
    assert (on_cpu - on_cuda).abs().max() < 0.05 * on_cpu.abs().max()
