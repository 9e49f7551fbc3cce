"""What the driver says of GPUs: the file that the fake of NVML (fake_nvml/pynvml.py) reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.queue.gpu.choice import GIB


class FakeNvml:
    """The file that FakeNvml reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gpus: list[dict[str, Any]] = []
        self.error = ""

    def add(self, uuid: str, free_gib: float = 79, **more: Any) -> None:
        self.gpus.append({"uuid": uuid, "total": 80 * GIB, "free": int(free_gib * GIB), **more})
        self.write()

    def change(self, uuid: str, **more: Any) -> None:
        [gpu] = [gpu for gpu in self.gpus if gpu["uuid"] == uuid]
        gpu.update(more)
        self.write()

    def looks(self) -> int:
        """How often GPUs were asked for."""
        try:
            return self.path.with_suffix(".looks").stat().st_size
        except FileNotFoundError:
            return 0

    def write(self) -> None:
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps({"gpus": self.gpus, "error": self.error}))
        temporary.replace(self.path)
