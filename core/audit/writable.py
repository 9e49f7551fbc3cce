"""What a model can never write: characters that its tokenizer lacks, tokens that its generation config bans, texts that
are longer than its decoder. Needs no model weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from core.errors import ModelError
from core.plan.families import family_of
from core.system.files import folder_problem

DEFAULT_POSITIONS = 448
PREFIX_AND_END = 2
"""Positions that a start token and the end of the text take."""


class TextCheck:
    """A check of texts against the model in a folder. ModelError when that has no tokenizer.json or config.json."""

    def __init__(self, folder: Path) -> None:
        import tokenizers

        if problem := folder_problem(folder):
            raise ModelError(problem)
        path = folder / "tokenizer.json"
        try:
            config = json.loads((folder / "config.json").read_bytes())
            positions = config.get("max_target_positions") or config.get("max_position_embeddings") or DEFAULT_POSITIONS
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(path))
            self._banned = _banned(folder, config)
            self._family = family_of(config.get("model_type"))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(
                f"{folder}: config.json, generation_config.json or tokenizer.json cannot be read ({error}): "
                "name a model folder in hub format"
            ) from error
        self._limit = int(positions) - PREFIX_AND_END
        self._lifted: frozenset[int] = frozenset()

    def train(self, texts: Iterable[str]) -> None:
        """Training on these texts lifts the ban of the tokens that they have."""
        self._lifted |= {token for text in texts for token in self._ids(text)} & self._banned

    def __call__(self, text: str, *, trained: bool = False) -> Iterator[tuple[str, str]]:
        """(kind, detail) of what is wrong with one text. `trained`: it is one of those that lift a ban."""
        ids = self._ids(text)
        if len(ids) > self._limit:
            yield "too_many_tokens", f"{len(ids)} tokens, the model writes at most {self._limit}"
        written = self._tokenizer.decode(ids, skip_special_tokens=True)
        lost = sorted({c for c in text if not c.isspace()} - set(written))
        if lost:
            yield "unwritable", f"{' '.join(lost)[:60]!r} in {text[:60]!r}"
        if banned := self._spelled(ids, self._banned - self._lifted):
            yield "suppressed", f"{banned[:60]!r} in {text[:60]!r}"
        if trained and (lifted := self._spelled(ids, self._lifted)):
            yield "lifted", f"{lifted[:60]!r} in {text[:60]!r}"

    def _ids(self, text: str) -> list[int]:
        spelled = text if self._family is None else self._family.spelled(text)
        ids: list[int] = self._tokenizer.encode(spelled, add_special_tokens=False).ids
        return ids

    def _spelled(self, ids: Iterable[int], among: frozenset[int]) -> str:
        pieces = (str(self._tokenizer.decode([token])).strip() for token in ids if token in among)
        return " ".join(dict.fromkeys(pieces))


def _banned(folder: Path, config: dict[str, Any]) -> frozenset[int]:
    """The ids that are never written, as transformers reads them: config.json has them where there is no other file."""
    path = folder / "generation_config.json"
    generation = json.loads(path.read_bytes()) if path.is_file() else config
    return frozenset(token for token in generation.get("suppress_tokens") or () if token >= 0)
