"""What the networks learn, and that learning repeats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from simulated import fresh, simulated_input

from geocd.method import devices, learning

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a run. On a busy machine, torch's threads mostly wait for each other."""
    with devices.one_thread():
        yield


def test_learning_optimises_both_networks() -> None:
    networks, before = fresh(), fresh().state_dict()
    learning.learn(networks, [simulated_input()], iterations=2, learning_rate=1e-3, seed=0, device=CPU)
    moved = {k.split(".")[0] for k, v in networks.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"extractor", "generator"}


def test_learning_finds_change_in_a_scene_it_has_not_seen() -> None:
    networks = fresh()
    inputs = [simulated_input(seed) for seed in range(6)]
    learning.learn(networks, inputs, iterations=60, learning_rate=2e-3, seed=0, device=CPU)
    unseen = simulated_input(99)
    with torch.no_grad():
        logit = networks(unseen.x1[None], unseen.x2[None])[0, 0].numpy()
    changed = unseen.distance > 2
    assert np.median(logit[changed]) > np.percentile(logit[~changed], 95)


def test_learning_repeats_and_follows_its_seed() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed + 7)  # must not matter
        networks = fresh()
        learning.learn(networks, [simulated_input()], iterations=2, learning_rate=1e-3, seed=seed, device=CPU)
        states.append(networks.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not all(torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_the_loss_ignores_what_is_not_valid() -> None:
    networks = fresh()
    valid = np.ones((96, 96), bool)
    valid[:, 48:] = False
    values = []
    for junk in (0.0, 1e3):
        inputs = simulated_input()
        distance = np.where(valid, inputs.distance, junk).astype(np.float32)
        x1, x2 = (np.where(valid, x, 0).astype(np.float32) for x in (inputs.x1, inputs.x2))
        batch = [torch.from_numpy(v)[None] for v in (x1, x2, distance[None], np.float32(valid)[None])]
        values.append(learning.loss(networks, batch, torch.Generator().manual_seed(0)).item())
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_the_loss_is_finite_without_a_valid_pixel() -> None:
    networks = fresh()
    zero = torch.zeros(1, 4, 32, 32)
    value = learning.loss(networks, [zero, zero, zero[:, :1], zero[:, :1]], torch.Generator().manual_seed(0))
    value.backward()
    assert torch.isfinite(value)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in networks.parameters())


def test_a_batch_keeps_dates_distance_and_valid_together() -> None:
    size = 130
    rows, cols = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    x1 = torch.stack([rows, cols, rows, cols])
    inputs = learning.NetworkInput(x1, x1 + 1, rows * size + cols, rows > cols)
    x1b, x2b, distance, valid = learning.draw([inputs], np.random.default_rng(0), CPU)
    assert x1b.shape == (learning.BATCH, 4, learning.SIDE, learning.SIDE)
    assert torch.equal(x2b, x1b + 1)
    assert torch.equal(distance, x1b[:, :1] * size + x1b[:, 1:2])
    assert torch.equal(valid > 0, x1b[:, :1] > x1b[:, 1:2])


def test_adapting_halves_the_batch_where_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The device is simulated: it has room for two squares."""
    sizes = []
    draw = learning.draw

    def scarce(*args: object) -> list[torch.Tensor]:
        batch = draw(*args)  # type: ignore[arg-type]
        sizes.append(len(batch[0]))
        if len(batch[0]) > 2:
            raise torch.OutOfMemoryError("no room")
        return batch

    monkeypatch.setattr(learning, "draw", scarce)
    start = fresh()
    steps: dict[int, float] = {}
    adapted = learning.adapt(
        start,
        [simulated_input()],
        iterations=2,
        learning_rate=1e-3,
        seed=0,
        device=CPU,
        on_step=steps.__setitem__,
    )
    assert sizes == [8, 4, 2, 2]
    assert list(steps) == [0, 1]
    assert all(np.isfinite(list(steps.values())))
    assert "halved to 2" in caplog.text
    pairs = zip(adapted.parameters(), fresh().parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), fresh().parameters(), strict=True))


def test_null_distance_is_above_the_bulk_and_has_a_floor() -> None:
    torch.manual_seed(0)
    values = torch.rand(1, 1, 50, 50)
    values[0, 0, :5] = 100
    everywhere = torch.ones_like(values)
    assert 1 < learning.null_distance(values, everywhere) < 3
    assert learning.null_distance(values * 0, everywhere) == learning.LEAST_NULL
