"""What a process may take of the machine's memory."""

from __future__ import annotations

import pytest

from geocd import machine


@pytest.mark.parametrize(
    ("total", "limit", "usable"),
    [(8000, None, 8000), (8000, 3000, 3000), (8000, 9000, 8000), (None, None, None)],
)
def test_a_container_may_allow_less_than_the_machine_has(
    total: int | None, limit: int | None, usable: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "memory", lambda: (total, total))
    monkeypatch.setattr(machine, "memory_limit", lambda: limit)
    assert machine.usable_memory() == usable
