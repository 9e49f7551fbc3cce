"""What stands as text in a plan and means more: a range of layers, a layer's own rank. Pure; ValueError says why."""

from __future__ import annotations

import re

MOST_RANK = 4096
_RANGE = re.compile(r"(\d{1,4})(-(\d{1,4})?)?", re.ASCII)
_RANK = re.compile(r"([^=\s]+)=(\d{1,9})", re.ASCII)


def layer_range(text: str) -> tuple[int, int | None]:
    """(first layer, last layer) of `6-11`, `6-` (None: to the last one) or `6`; layers count from 0, both included."""
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text[:40]}" is no range of layers: write "6-11", "6-" (to the last one) or "6"')
    first = int(found[1])
    last = first if found[2] is None else (None if found[3] is None else int(found[3]))
    if last is not None and last < first:
        raise ValueError(f'"{text}" ends before it begins: write "{last}-{first}"')
    return first, last


def module_rank(text: str) -> tuple[str, int]:
    """(layer's name, rank) of `q_proj=8`."""
    found = _RANK.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text[:80]}" is no rank of a layer: write {{ q_proj = 8 }}')
    rank = int(found[2])
    if not 1 <= rank <= MOST_RANK:
        raise ValueError(f"{found[1]}: rank {rank} must be from 1 to {MOST_RANK}")
    return found[1], rank
