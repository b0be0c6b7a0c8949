"""Devices: which one to compute on, threads, and what to do when memory runs out."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import logging
import os
import platform
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from geocd.errors import DeviceError
from geocd.raster.pair import Chip
from geocd.threads import Shared
from geocd.types import Float32Array

Network = TypeVar("Network", bound=nn.Module)

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
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
            return _exact(torch.device("cuda"))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    names = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    try:
        device = torch.device(name)
        exists = device.type == "cpu" or f"{device.type}:{device.index or 0}" in names or name in names
    except RuntimeError:
        exists = False
    if not exists:
        raise DeviceError(
            f"--device {name}: no such device here. Choose auto or one of: {', '.join(names)}.",
            device=name,
            found=names,
        )
    return _exact(device)


def _exact(device: torch.device) -> torch.device:
    """Make CUDA compute in float32, not in TF32, and the same bits every time; return the device."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or sums of products differ by stream
    return device


def available() -> list[dict[str, str | int | None]]:
    """Return the devices of this machine: ``name``, ``what`` and ``memory`` (MB of 2**20 bytes, or None)."""
    devices: list[dict[str, str | int | None]] = [
        {"name": "cpu", "what": platform.processor() or platform.machine(), "memory": None}
    ]
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        devices.append({"name": f"cuda:{index}", "what": card.name, "memory": card.total_memory // 2**20})
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "what": "Apple Metal", "memory": None})
    return devices


def threads() -> int:
    """Return the number of threads that torch uses by default."""
    return torch.get_num_threads()


def spread(device: torch.device) -> list[torch.device]:
    """Return the devices that share the tiles: every GPU for ``cuda``, else the device itself."""
    if device == torch.device("cuda"):  # and not cuda:0
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [device]


def replicas(network: Network, device: torch.device) -> list[tuple[torch.device, Network]]:
    """Return a copy of a network for each device of :func:`spread`."""
    return [(replica, copy.deepcopy(network).to(replica)) for replica in spread(device)]


def on_device(network: Network, device: torch.device) -> Network:
    """Return a frozen network on a device: itself there, else a copy, made once for each device."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    if all(tensor.device == device for tensor in itertools.islice(tensors, 1)):
        return network
    with _copies_lock:
        copies = _copies.setdefault(network, {})
        if device not in copies:
            copies[device] = copy.deepcopy(network).to(device)
        return copies[device]  # type: ignore[return-value]


_copies: weakref.WeakKeyDictionary[nn.Module, dict[torch.device, nn.Module]] = weakref.WeakKeyDictionary()
_copies_lock = threading.Lock()


def in_pieces(device: torch.device) -> bool:
    """Return whether images are computed by bands or rows, which fit into the cache of a CPU.

    Any other device is given as much as possible at once, because each operation has to be started there.
    """
    return device.type == "cpu"


def constants(
    owner: object, device: torch.device, make: Callable[[], Sequence[npt.NDArray[np.generic]]]
) -> tuple[Tensor, ...]:
    """Return arrays of a fitted object as tensors on a device: made and sent once, and freed with it."""
    key = id(owner), device
    if key not in _constants:
        made = tuple(sent(np.ascontiguousarray(values), device) for values in make())
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()  # other threads have other streams
        _constants[key] = made
        weakref.finalize(owner, _constants.pop, key, None)
    return _constants[key]


_constants: dict[tuple[int, torch.device], tuple[Tensor, ...]] = {}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch's operators to one thread each; use as a context.

    Sums over threads are rounded differently for other numbers of threads; the tiles run in parallel
    instead. The setting belongs to the process: where several threads are inside at once, the last one to
    leave restores it.
    """
    with _threads.held():
        torch.set_num_threads(1)  # each thread its own
        yield


_threads = Shared(lambda: functools.partial(torch.set_num_threads, torch.get_num_threads()))


def release(device: torch.device) -> None:
    """Return cached memory to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


#: Computes the bands of a chip, ``(n, height, width)`` float32, on the device it is given.
Compute = Callable[[Chip, torch.device], Float32Array]


def in_room(compute: Compute, chip: Chip, device: torch.device, *, margin: int) -> Float32Array:
    """Compute a chip on a device; in halves where it runs out of memory, on the CPU as the last resort.

    On CUDA in a stream of the thread's own, so that chips computed by several threads overlap.

    Parameters
    ----------
    compute : callable
        ``compute(chip, device)`` returns ``(n, height, width)`` float32.
    chip : Chip
    device : torch.device
    margin : int
        Pixels around a pixel that its value depends on; halves overlap by it.

    Returns
    -------
    ndarray, (n, height, width), float32
    """
    height, width = chip.valid.shape
    try:
        with torch.no_grad(), _own_stream(device):
            return compute(chip, device)
    except torch.OutOfMemoryError:
        if device == CPU:
            raise
    release(device)  # only now: the error, while it was handled, held references to tensors
    if max(height, width) < 2 * max(LEAST_SIDE, margin):
        log.warning("%s has no room for %d x %d px: computed on the CPU", device, width, height)
        return in_room(compute, chip, CPU, margin=margin)
    log.warning("%s has no room for %d x %d px: computed in two halves", device, width, height)
    axis, length = (0, height) if height >= width else (1, width)
    middle = length // 2

    def part(begin: int, end: int, first: int, last: int) -> Float32Array:
        span = slice(begin, end)
        piece = chip.part(slice(None), span) if axis else chip.part(span, slice(None))
        values = in_room(compute, piece, device, margin=margin)
        return values.take(range(first - begin, last - begin), axis=1 + axis)

    halves = part(0, middle + margin, 0, middle), part(middle - margin, length, middle, length)
    return np.concatenate(halves, axis=1 + axis)


@contextlib.contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    """Compute in the stream of this thread, which keeps its memory for the next chip."""
    if device.type != "cuda":
        yield
        return
    streams = vars(_thread).setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    streams[device].wait_stream(torch.cuda.current_stream(device))  # which copied the networks to the device
    with torch.cuda.stream(streams[device]):
        yield


_thread = threading.local()


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Optimise with the same bits every time: on CUDA, gradients are otherwise summed in any order."""
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.use_deterministic_algorithms(before)


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which networks run: bfloat16 where it is faster, on CUDA."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()


def sent(values: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """Return an array as a tensor on a device; to CUDA by an asynchronous copy from pinned memory."""
    tensor = torch.from_numpy(np.require(values, requirements=["C", "W"]))  # as torch requires
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


__all__ = [
    "CPU",
    "LEAST_SIDE",
    "available",
    "choose_device",
    "constants",
    "deterministic",
    "in_pieces",
    "in_room",
    "log",
    "mixed_precision",
    "on_device",
    "one_thread",
    "release",
    "replicas",
    "sent",
    "spread",
    "threads",
]
