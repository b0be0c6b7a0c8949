"""Weights that mean harm."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from geocd.errors import WeightsError
from geocd.method.weights import read_weights


class Mark:
    """What a pickle does when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.safetensors"])
def test_a_pickle_offered_as_weights(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "was here"
    path = tmp_path / name
    path.write_bytes(pickle.dumps({"state_dict": {"weight": Mark(mark)}}))
    with pytest.raises(WeightsError, match="not a weights file that can be read safely"):
        read_weights(str(path))
    torch.save({"weight": Mark(mark)}, path)
    with pytest.raises(WeightsError, match="not a weights file that can be read safely"):
        read_weights(str(path))
    assert not mark.exists()


def test_weights_that_claim_what_no_computer_holds(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    header = b'{"a": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 4000000000000]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(WeightsError, match="not a weights file"):
        read_weights(str(path))
    path.write_bytes(struct.pack("<Q", 2**62) + header)
    with pytest.raises(WeightsError, match="not a weights file"):
        read_weights(str(path))
