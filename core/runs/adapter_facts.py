"""What an adapter's WER depends on besides its weights: `reproduce.json` in its folder, covered by its hash."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import msgspec

from core.errors import ModelError
from core.runs.paths import ADAPTER_FACTS
from core.scoring.text import NAMES
from core.system.files import read_json

LEAST_TOKENS_PER_SECOND = 1.0
"""The slowest speech takes more: with fewer a transcript would be cut, whatever was said."""
_PRECISIONS = ("fp32", "bf16")
_LARGEST_RMS = 1.0


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What reproduces an adapter's WER. No times and no paths of runs, so that equal runs write equal bytes."""

    step: int
    identity: str
    model: str
    revision: str | None
    model_hash: str
    target_rms: float
    normaliser: str
    fingerprint: str
    tokens_per_second: float
    eval_batch_seconds: float
    precision: str
    threads: int
    lifted: tuple[int, ...] = ()
    """Tokens that the model's generation config bans and that training texts have: the adapter may write them."""
    hash_version: int = 2
    """Of the adapter's hash: 1 covers weights and configuration, 2 these facts too."""


def read_facts(folder: Path) -> AdapterFacts | None:
    """The facts beside an adapter; None for an adapter that another program made. ModelError: none to decode under."""
    path = folder / ADAPTER_FACTS
    document, problem = read_json(path, follow=True)
    if document is None and problem is None:
        return None
    facts = None
    try:
        facts = None if document is None else msgspec.convert({"hash_version": 1} | document, AdapterFacts)
        wrong = problem if facts is None else impossible(facts)
    except msgspec.ValidationError as error:
        wrong = str(error)
    if wrong is not None:
        said = wrong.removeprefix(f"{path}: ")
        raise ModelError(
            f"{path}: {said}; the adapter's WER could not be reproduced: bring the adapter anew, or train again"
        )
    return facts


def impossible(facts: AdapterFacts) -> str | None:
    """What in the facts no trainer would have written; None where nothing is."""
    checks = {
        "tokens_per_second": LEAST_TOKENS_PER_SECOND <= facts.tokens_per_second < math.inf,
        "target_rms": 0 < facts.target_rms < _LARGEST_RMS,
        "eval_batch_seconds": 0 < facts.eval_batch_seconds < math.inf,
        "threads": facts.threads >= 1,
        "step": facts.step >= 0,
        "lifted": all(token >= 0 for token in facts.lifted),
        "precision": facts.precision in _PRECISIONS,
        "normaliser": facts.normaliser in NAMES,
    }
    wrong = next((name for name, holds in checks.items() if not holds), None)
    return None if wrong is None else f"{wrong} = {getattr(facts, wrong)!r} cannot be"
