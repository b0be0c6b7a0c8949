"""Where the networks run: choosing a device, threads, and what to do when its memory does not suffice."""

from __future__ import annotations

import contextlib
import copy
import logging
import platform
import threading
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from geocd.errors import DeviceError

Network = TypeVar("Network", bound=nn.Module)

log = logging.getLogger(__name__)

#: Sides, in pixels, below which an image is not halved any more when a device has no room for it.
LEAST_SIDE = 128


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    DeviceError
        No such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    try:
        device = torch.device(name)
        known = device.type == "cpu" or f"{device.type}:{device.index or 0}" in found or name in found
    except RuntimeError:
        known = False
    if not known:
        raise DeviceError(
            f"--device {name}: no such device here. Choose auto or one of: {', '.join(found)}.",
            device=name,
            found=found,
        )
    return device


def found() -> list[dict[str, str | int | None]]:
    """Return what there is to compute on: ``name``, ``what`` and ``memory`` (MB of 2**20 bytes, or None)."""
    devices: list[dict[str, str | int | None]] = [
        {"name": "cpu", "what": platform.processor() or platform.machine(), "memory": None}
    ]
    for index in range(torch.cuda.device_count()):
        known = torch.cuda.get_device_properties(index)
        devices.append({"name": f"cuda:{index}", "what": known.name, "memory": known.total_memory // 2**20})
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "what": "Apple Metal", "memory": None})
    return devices


def threads() -> int:
    """Return the number of threads that torch takes by itself."""
    return torch.get_num_threads()


def spread(device: torch.device) -> list[torch.device]:
    """Return the devices that share the tiles: every GPU for ``cuda``, one for ``cuda:1`` and all else."""
    if device == torch.device("cuda"):  # and not cuda:0
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [device]


def replicas(network: Network, device: torch.device) -> list[tuple[torch.device, Network]]:
    """Return a copy of a network for each device of :func:`spread`."""
    return [(one, copy.deepcopy(network).to(one)) for one in spread(device)]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch's operators to one thread each, in this thread and in those begun inside.

    Sums over threads are rounded differently for other numbers of threads; the tiles run in parallel
    instead. The setting is the process's: it is put back by the last of those threads to leave.
    """
    with _one.lock:
        if not _one.inside:
            _one.before = torch.get_num_threads()
        _one.inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _one.lock:
            _one.inside -= 1
            if not _one.inside:
                torch.set_num_threads(_one.before)


class _One:
    """Who is inside :func:`one_thread`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.before = 1


_one = _One()


def release(device: torch.device) -> None:
    """Give the memory that torch keeps for later back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def infer(
    network: nn.Module, inputs: Sequence[Tensor], device: torch.device, *, margin: int, stride: int
) -> Tensor:
    """Run a network over images of any size; in pieces where the device has no room, on the CPU at last.

    On CUDA in mixed precision (bfloat16), from pinned memory, and in a stream of its own, so that tiles
    computed by several threads overlap; elsewhere in float32.

    Parameters
    ----------
    network : torch.nn.Module
        On ``device``; takes the inputs and returns (N, 1, H, W).
    inputs : sequence of Tensor, (N, C, H, W)
        On the CPU; heights and widths are multiples of ``stride``.
    device : torch.device
    margin : int
        Pixels around a pixel that its value depends on, a multiple of ``stride``; pieces overlap by it.
    stride : int

    Returns
    -------
    Tensor, (N, 1, H, W), float32
        On the CPU.
    """
    height, width = inputs[0].shape[-2:]
    try:
        with torch.inference_mode(), _own_stream(device):
            result: Tensor = network(*(_sent(x, device) for x in inputs)).float().cpu()
        return result
    except torch.OutOfMemoryError:
        release(device)
    if max(height, width) < 2 * max(LEAST_SIDE, margin):
        log.warning("%s has no room for %d x %d px: computed on the CPU", device, width, height)
        cpu = torch.device("cpu")
        return infer(copy.deepcopy(network).to(cpu), inputs, cpu, margin=margin, stride=stride)
    log.warning("%s has no room for %d x %d px: computed in two halves", device, width, height)
    axis, length = (-2, height) if height >= width else (-1, width)
    middle = length // 2 // stride * stride

    def part(begin: int, end: int) -> Tensor:
        return infer(
            network,
            [x.narrow(axis, begin, end - begin) for x in inputs],
            device,
            margin=margin,
            stride=stride,
        )

    first = part(0, middle + margin).narrow(axis, 0, middle)
    second = part(middle - margin, length).narrow(axis, margin, length - middle)
    return torch.cat([first, second], dim=axis)


@contextlib.contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream), torch.autocast("cuda", torch.bfloat16):
        yield


def _sent(values: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


__all__ = [
    "LEAST_SIDE",
    "choose_device",
    "found",
    "infer",
    "log",
    "one_thread",
    "release",
    "replicas",
    "spread",
    "threads",
]
