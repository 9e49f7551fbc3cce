"""What a model's tokenizer cannot write, and texts that are longer than its decoder. Needs no model weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.errors import ModelError

DEFAULT_POSITIONS = 448
PREFIX_AND_END = 2
"""Positions that a start token and the end of the text take."""

TextCheck = Callable[[str], Iterator[tuple[str, str]]]


def text_check(folder: Path) -> TextCheck:
    """A check of texts against the model in `folder`: (kind, detail) for unwritable or too long ones.

    Raises ModelError when the folder holds no tokenizer.json or config.json that can be read.
    """
    import tokenizers

    path = folder / "tokenizer.json"
    try:
        config = json.loads((folder / "config.json").read_bytes())
        positions = config.get("max_target_positions") or config.get("max_position_embeddings") or DEFAULT_POSITIONS
        tokenizer: Any = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(
            f"{folder}: config.json or tokenizer.json cannot be read ({error}): name a model folder in hub format"
        ) from error
    limit = int(positions) - PREFIX_AND_END

    def check(text: str) -> Iterator[tuple[str, str]]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) > limit:
            yield "too_many_tokens", f"{len(ids)} tokens, the model writes at most {limit}"
        written = tokenizer.decode(ids, skip_special_tokens=True)
        lost = sorted({c for c in text if not c.isspace()} - set(written))
        if lost:
            yield "unwritable", f"{' '.join(lost)[:60]!r} in {text[:60]!r}"

    return check
