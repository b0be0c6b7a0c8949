"""What a tile costs a GPU, counted on a CPU: operations that it starts, waits, bytes that are uploaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rasterio.windows import Window
from simulated import simulated_chip
from torch.utils._python_dispatch import TorchDispatchMode

from geocd.config import Settings
from geocd.method import devices, scaled
from geocd.method.default import DefaultDetector
from geocd.raster.pair import Chip

#: Allocations, and other operations that compute nothing.
FREE = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "detach",
    "lift_fresh",
    "_unsafe_view",
    "_local_scalar_dense",
}
#: Operations that wait for the device.
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique"}


class Operations(TorchDispatchMode):
    """Counts operations by name, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.started: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.split("::")[1]
        views = any(
            value.alias_info is not None and not value.alias_info.is_write for value in func._schema.returns
        )
        self.waits[name] += name in WAITS
        self.started[name] += not views and name not in FREE
        return func(*args, **(kwargs or {}))


@pytest.fixture
def chip() -> Chip:
    """Six bands of whole numbers, in float32 as a pair is read, 512 x 512, all valid."""
    small = simulated_chip(0)
    rows, cols = (np.arange(512) % n for n in small.valid.shape)
    before, after = (
        np.round(date[[0, 1, 2, 3, 0, 1]])[:, rows[:, None], cols].astype(np.float32)
        for date in (small.before, small.after)
    )
    return Chip(before, after, np.ones((512, 512), bool), Window(0, 0, 512, 512))


@pytest.fixture
def fitted(chip: Chip) -> Callable[[float], DefaultDetector]:
    def fit(pixel_size: float) -> DefaultDetector:
        pair = SimpleNamespace(
            band_names=["red", "green", "blue", "nir", "swir1", "swir2"],
            grid=SimpleNamespace(pixel_size=pixel_size),
        )
        return DefaultDetector.fit([chip], pair, Settings().resolved().method, 1)  # type: ignore[arg-type]

    return fit


@pytest.mark.parametrize("pixel_size", [1.5, 10.0, 30.0])
def test_a_tile_keeps_a_gpu_fed(
    chip: Chip,
    fitted: Callable[[float], DefaultDetector],
    pixel_size: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As any device but a CPU computes it; constants are there since the first tile."""
    detector, uploaded = fitted(pixel_size), 0
    for module in (devices, scaled):
        monkeypatch.setattr(module, "in_pieces", lambda device: False)
    detector.prob(chip)

    def sent(values: np.ndarray, device: torch.device) -> torch.Tensor:
        nonlocal uploaded
        uploaded += values.nbytes
        return torch.from_numpy(values).to(device)

    monkeypatch.setattr(devices, "sent", sent)
    monkeypatch.setattr(scaled, "sent", sent)
    with Operations() as operations:
        detector.prob(chip)
    print(operations.started.most_common(), operations.started.total(), uploaded / 512**2)
    assert operations.started.total() <= 400, operations.started.most_common()
    assert operations.waits.total() == 0, operations.waits.most_common()
    assert uploaded / 512**2 <= 30


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 65_535], "uint16"),
        ([-32_768, 32_767], "int16"),
        ([-1, 65_535], "float32"),
        ([0, 65_536], "float32"),
        ([0.5, 3], "float32"),
        ([3e9, 1], "float32"),
    ],
)
def test_only_what_is_exact_in_16_bits_is_sent_so(values: list[float], dtype: str) -> None:
    stored = np.array(values, np.float32)
    sent = scaled._in_16_bits(stored)
    assert sent.dtype == dtype
    assert np.array_equal(sent, stored)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_repeats_itself_in_any_thread(chip: Chip) -> None:
    """Two fits, and tiles of several threads: the same bytes."""
    pair = SimpleNamespace(
        band_names=["red", "green", "blue", "nir", "swir1", "swir2"], grid=SimpleNamespace(pixel_size=10.0)
    )
    settings = Settings.from_flat({"device": "cuda"}).resolved().method
    first, second = (
        DefaultDetector.fit([chip], pair, settings, 1)  # type: ignore[arg-type]
        for _ in range(2)
    )
    with ThreadPoolExecutor(4) as pool:
        maps = list(pool.map(lambda detector: detector.prob(chip), [first, second] * 4))
    assert len({values.tobytes() for values in maps}) == 1
    on_cpu = DefaultDetector.fit([chip], pair, Settings().resolved().method, 1)  # type: ignore[arg-type]
    # a pixel midway between two classes may be assigned to the other one
    assert np.quantile(np.abs(maps[0] - on_cpu.prob(chip)), 0.999) < 1e-3
