"""Values of a plan that are texts of a form of their own: what each means, or a ValueError that says what to write."""

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


def slurm_time(text: str) -> int:
    """Seconds of one of Slurm's time limits: `90` (minutes), `90:30`, `8:00:00`, `2-0`, `2-12:30`, `2-12:30:00`."""
    found = _SLURM_TIME.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text[:40]}" is no time limit of Slurm: write "8:00:00", or "2-00:00:00" for two days')
    days, rest = found[1], [int(part) for part in found[2].split(":")]
    if days is not None:  # hours come first then
        hours, minutes, seconds = (*rest, 0, 0)[:3]
    elif len(rest) == 3:
        hours, minutes, seconds = rest
    else:
        hours, (minutes, seconds) = 0, (*rest, 0)[:2]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    if not total:
        raise ValueError(f'"{text}" is no time at all: leave the key out for the limit of the partition')
    return total


def sbatch_option(text: str) -> str:
    """The name of an option of sbatch in its long form, such as `--constraint=a100`, that a plan may give."""
    found = _OPTION.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text[:40]}" is no option of sbatch: write "--constraint=a100", with its value behind =')
    if found[1] in _OWN_OPTIONS:
        raise ValueError(f"--{found[1]} belongs to the queue, which finds its jobs again by what it sets itself")
    return found[1]


_SLURM_TIME = re.compile(r"(?:(\d{1,4})-)?(\d{1,7}(?::\d{1,2}){0,2})", re.ASCII)
_OPTION = re.compile(r"--([a-z][a-z0-9-]*)(=[^\n]+)?", re.ASCII)
_OWN_OPTIONS = frozenset(
    (
        "array",
        "chdir",
        "clusters",
        "comment",
        "error",
        "export",
        "export-file",
        "hold",
        "input",
        "job-name",
        "no-requeue",
    )
) | frozenset(("ntasks", "open-mode", "output", "parsable", "requeue", "signal", "test-only", "wait", "wrap"))
