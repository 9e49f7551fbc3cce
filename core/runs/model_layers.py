"""The names of a model's linear layers, from the headers of its safetensors files. Loads no weights."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.system.files import open_regular, parse_json

_MAX_HEADER_BYTES = 100_000_000
_ATTENTION = ("attn", "attention")
_FEED_FORWARD = ("mlp", "feed_forward", "ffn", "fc1", "fc2", "intermediate", "output")
_CUSTOMARY_ORDER = ("q", "k", "v", "o")


@dataclass(frozen=True, slots=True)
class LinearLayers:
    """Last parts of module names, as `adapter.target_modules` takes them."""

    attention: tuple[str, ...] = ()
    feed_forward: tuple[str, ...] = ()


def linear_layers(folder: Path) -> LinearLayers:
    """The linear layers of the model's attention and feed-forward blocks; empty where no file tells."""
    attention: set[str] = set()
    feed_forward: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        for tensor, description in _header(path):
            *modules, leaf, kind = ["", "", *tensor.split(".")]
            if kind != "weight" or len(description.get("shape", ())) != 2:
                continue
            if any(word in module for module in modules for word in _ATTENTION):
                attention.add(leaf)
            elif any(module in _FEED_FORWARD for module in (*modules, leaf)):
                feed_forward.add(leaf)
    return LinearLayers(_ordered(attention), _ordered(feed_forward - attention))


def linear_shapes(folder: Path) -> list[tuple[str, int, int]]:
    """(last part of the name, outputs, inputs) of each matrix `….weight` in the model; empty where no file tells."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        for tensor, description in _header(path):
            *_, leaf, kind = ["", "", *tensor.split(".")]
            shape = description.get("shape", ())
            if kind == "weight" and len(shape) == 2:
                found.append((leaf, int(shape[0]), int(shape[1])))
    return found


def linear_modules(folder: Path) -> list[str]:
    """Whole names of the modules with a matrix of weights that is no embedding; empty where no file tells."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        for tensor, description in _header(path):
            module, _, kind = tensor.rpartition(".")
            if kind == "weight" and len(description.get("shape", ())) == 2 and "embed" not in module.rpartition(".")[2]:
                found.append(module)
    return found


def _ordered(names: set[str]) -> tuple[str, ...]:
    first = {letter: position for position, letter in enumerate(_CUSTOMARY_ORDER)}
    return tuple(sorted(names, key=lambda name: (first.get(name[:1], len(first)), name)))


def _header(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tensors that a safetensors file names; none where it is not one."""
    try:
        with open_regular(path, follow=True) as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = parse_json(file.read(size)) if size <= _MAX_HEADER_BYTES else {}
    except (OSError, ValueError, struct.error):
        return
    for name, description in header.items() if isinstance(header, dict) else ():
        if isinstance(description, dict):
            yield name, description
