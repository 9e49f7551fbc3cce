"""The files of a base model: the hash of those that decide what it says, names and shapes of its layers.

Names and shapes come from the headers of the safetensors files; no weights are loaded.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.errors import AudioError, ModelError
from core.manifests.hashing import HashCache, file_sha256
from core.plan.targets import Shape
from core.runs.contents import HUB
from core.system.files import open_regular, parse_json, stamp

WEIGHTS = "*.safetensors"
CONFIG = "config.json"
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
            if kind != "weight" or len(_sizes(description) or ()) != 2 or "embed" in leaf:
                continue
            if any(word in module for module in modules for word in _ATTENTION):
                attention.add(leaf)
            elif any(module in _FEED_FORWARD for module in (*modules, leaf)):
                feed_forward.add(leaf)
    return LinearLayers(_ordered(attention), _ordered(feed_forward - attention))


@dataclass(frozen=True, slots=True)
class ModelShapes:
    """What the headers of a model's files say; nothing where no file tells."""

    linear: dict[str, Shape]
    """Whole name of each module with a matrix of weights that is no embedding."""
    embedding: Shape | None
    """The largest embedding, which output layers without weights of their own share."""
    weights: int
    """Numbers in all tensors together."""


def model_shapes(folder: Path) -> ModelShapes:
    """The shapes of a model's weights. No weights are loaded."""
    # MMS has a file for each of a thousand languages, whose weights take the place of others
    paths = sorted(path for path in folder.glob(WEIGHTS) if not path.name.startswith("adapter."))
    stamps = []
    for path in paths:
        try:
            stamps.append(stamp(path.stat()))
        except OSError:
            stamps.append(())
    return _model_shapes(tuple(paths), tuple(stamps))


def tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Name of each tensor in a model's files → its shape; of languages' own files none."""
    paths = sorted(path for path in folder.glob(WEIGHTS) if not path.name.startswith("adapter."))
    named = (item for path in paths for item in _header(path))
    return {name: shape for name, description in named if (shape := _sizes(description)) is not None}


def broken_weights(folder: Path) -> str | None:
    """Which of a model's weight files is none, or is cut off, by its header; None: each is whole."""
    for path in sorted(folder.glob(WEIGHTS)):
        try:
            with open_regular(path, follow=True) as file:
                (size,) = struct.unpack("<Q", file.read(8))
                header = parse_json(file.read(size)) if size <= _MAX_HEADER_BYTES else None
                length = os.fstat(file.fileno()).st_size
        except (OSError, ValueError, struct.error):
            header, size, length = None, 0, 0
        if not isinstance(header, dict):
            return f"{path.name} is no whole safetensors file: download or save it again"
        ends = [
            tensor["data_offsets"][1] for tensor in header.values() if isinstance(tensor, dict) and "dtype" in tensor
        ]
        if length != 8 + size + max(ends, default=0):
            return f"{path.name} is cut off, or longer than it says: download or save it again"
    return None


@lru_cache(maxsize=8)
def _model_shapes(paths: tuple[Path, ...], _stamps: tuple[tuple[int, ...], ...]) -> ModelShapes:
    linear: dict[str, Shape] = {}
    embedding: Shape | None = None
    weights = 0
    for path in paths:
        for tensor, description in _header(path):
            shape = _sizes(description)
            weights += math.prod(shape) if shape is not None else 0
            module, _, kind = tensor.rpartition(".")
            if kind != "weight" or shape is None or len(shape) != 2:
                continue
            found = Shape(*shape)
            if "emb" not in module.rpartition(".")[2] and "embed_positions." not in module:
                linear[module] = found
            elif embedding is None or found.outputs > embedding.outputs:
                embedding = found
    return ModelShapes(linear, embedding, weights)


def _sizes(description: dict[str, Any]) -> list[int] | None:
    """The shape of a tensor; None where it is none."""
    shape = description.get("shape")
    whole = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    return list(shape) if isinstance(shape, list) and whole else None


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


PATTERNS = (
    WEIGHTS,
    "*.safetensors.index.json",
    CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template*",
    "tokenizer*",
    "tekken*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "normalizer.json",
    "*.model",
)
"""Weights, configuration, tokenizer, processor. A read-me or training log beside them changes nothing."""


def model_hash(folder: Path, cache: HashCache) -> str:
    """SHA-256 (64 hex digits) over the names and contents of the model's files.

    Raises ModelError when the folder, its configuration or its safetensors weights are missing or unreadable.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder: correct model.id")
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder}: no {CONFIG}: model.id must name a folder in hub format")
    if not any(folder.glob(WEIGHTS)):
        pickled = any(folder.glob("*.bin"))
        why = "only pickled weights (.bin), which are never loaded" if pickled else "no weights"
        raise ModelError(f"{folder}: {why}: save the model as safetensors")
    digest = hashlib.sha256()
    for path in sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if not path.is_dir()}):
        try:
            digest.update(f"{path.name}\0{file_sha256(path, cache)}\n".encode())
        except AudioError as error:
            raise ModelError(str(error)) from error
    return digest.hexdigest()


# Models of the Hugging Face hub: which commit a revision is, because a branch or a tag may become another one
#
# The cache of `huggingface_hub` is looked into first: it says what would be loaded here without a network. The hub
# itself is asked only by what is about to train.

DEFAULT_REVISION = "main"
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_REVISION = re.compile(r"^[\w][\w./+-]*$")
_FILE = "config.json"


class CommitUnknownError(ModelError):
    """The commit of a hub model's revision is not known here."""


def is_hub_id(text: str) -> bool:
    """Whether `text` has the form of a hub id: `organisation/name`."""
    return _HUB_ID.match(text) is not None


def is_commit(revision: str | None) -> bool:
    """Whether `revision` is the whole name of a commit, which never means anything else."""
    return revision is not None and _COMMIT.match(revision) is not None


def hub_hash(hub_id: str, revision: str | None) -> str:
    """What stands for a hub model among the content hashes of a run."""
    return f"{HUB}{hub_id}@{revision or DEFAULT_REVISION}"


def commit_of(hub_id: str, revision: str | None, *, ask: bool) -> str:
    """The commit, 40 hex digits, that `revision` of `hub_id` is. `ask`: the hub, where the cache does not say.

    ModelError: no such revision, or it is not known (CommitUnknownError) and the sentence says what to do.
    """
    named = revision or DEFAULT_REVISION
    if is_commit(named):
        return named
    if not _REVISION.match(named) or ".." in named:
        raise ModelError(f"model.revision: {named!r} is no revision: name a branch, a tag or a commit of {hub_id}")
    found = _in_cache(hub_id, named)
    if found is not None:
        return found
    what = f"model.id: which commit of {hub_id} is {named} is not known here"
    do = "download the model, or write its commit (40 hex digits) as model.revision"
    if not ask:
        raise CommitUnknownError(f"{what}, for it is not in the cache of the hub: start the plan or {do}")
    try:
        _download(hub_id, named)
    except Exception as error:  # whatever the hub's client, its transport and the disk raise
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise CommitUnknownError(f"{what}, and the hub could not be asked ({why}): {do}") from error
    found = _in_cache(hub_id, named)
    if found is None:
        raise CommitUnknownError(f"{what}, though its {_FILE} was downloaded: {do}")
    return found


def folder_in_cache(hub_id: str, revision: str | None) -> Path | None:
    """The folder of the cache that `revision` of `hub_id` would be loaded from; None where it is not there."""
    # Only here: most plans name a folder.
    from huggingface_hub import try_to_load_from_cache

    try:
        path = try_to_load_from_cache(hub_id, _FILE, revision=revision or DEFAULT_REVISION)
    except (OSError, ValueError):  # a folder that may not be read, a file that is no text
        return None
    return Path(path).parent if isinstance(path, str) else None


def _in_cache(hub_id: str, revision: str) -> str | None:
    folder = folder_in_cache(hub_id, revision)
    return folder.name if folder is not None and is_commit(folder.name) else None


def _download(hub_id: str, revision: str) -> None:
    """Have the hub's own client note in its cache which commit it is."""
    from huggingface_hub import hf_hub_download

    hf_hub_download(hub_id, _FILE, revision=revision)
