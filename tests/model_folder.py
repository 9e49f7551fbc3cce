"""A folder that looks like a model in hub format: whole by its files, with no network in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file


def model_folder(
    folder: Path, model_type: str = "moonshine", weights: Mapping[str, NDArray[np.float32]] | None = None
) -> Path:
    """Written with these weights, by their names; none unless they are given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
    (folder / "preprocessor_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text('{"model": {}}')
    save_file(dict(weights or {}), folder / "model.safetensors")
    return folder
