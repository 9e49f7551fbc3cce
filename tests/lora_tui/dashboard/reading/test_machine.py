"""The machine's history as sparklines."""

from __future__ import annotations

import pytest

from core.queue.gpu.choice import Gpu
from lora_tui.cells import plain
from lora_tui.dashboard.reading.machine import HISTORY, ResourceReader, Resources, sparkline


@pytest.mark.parametrize(
    ("percents", "cells", "shown"),
    [
        ([0, 50, 100], 10, "▁▅█ "),
        ([0] * 10 + [100] * 10, 2, "▁█ "),
        ([0, 100, 100], 2, "▁█ "),
        ([50], 10, ""),
        ([0, 100], 0, ""),
        ([-5, 700], 2, "▁█ "),
    ],
)
def test_a_sparkline_has_at_most_so_many_bars_and_ends_with_the_newest(
    percents: list[int], cells: int, shown: str
) -> None:
    assert sparkline(percents, cells) == shown
    assert plain(shown, ascii_only=True).isascii()


def test_the_machine_is_told_with_its_history_where_there_is_room() -> None:
    gpu = Gpu("GPU-1", "GPU 0", 0, total=2**30, free=2**29, busy_percent=90)
    machine = Resources(40, 2.0, 8.0, (gpu,), (0, 100), (25, 25), ((10, 90),))
    assert machine.text(8) == "GPU ▁█ 90 % 0.5/1.0 GiB · CPU ▁█ 40 % · memory ▃▃ 2.0/8.0 GiB"
    assert machine.text() == "GPU 90 % 0.5/1.0 GiB · CPU 40 % · memory 2.0/8.0 GiB"


def test_a_reader_keeps_the_last_measurements() -> None:
    reader = ResourceReader()
    for _ in range(HISTORY + 5):
        machine = reader.read()
    assert len(machine.memory_history) == HISTORY and len(machine.cpu_history) <= HISTORY
