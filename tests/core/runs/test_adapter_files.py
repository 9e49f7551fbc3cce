"""The facts that an adapter is decoded under: typed, possible, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from score_kit import adapter_facts

from core.errors import ModelError
from core.runs.adapter_files import read_facts

CONFIG: dict[str, Any] = {"identity": "0123456789", "settings": {}}


def written(folder: Path, **changes: object) -> Path:
    (folder / "reproduce.json").write_text(json.dumps(adapter_facts(7, CONFIG) | changes))
    return folder


def test_whole_facts_are_read_and_none_are_none(tmp_path: Path) -> None:
    assert read_facts(tmp_path) is None
    facts = read_facts(written(tmp_path))
    assert facts is not None and (facts.step, facts.tokens_per_second, facts.hash_version) == (7, 6.5, 2)


def test_facts_of_an_earlier_version_say_so(tmp_path: Path) -> None:
    document = adapter_facts(7, CONFIG)
    del document["hash_version"]
    (tmp_path / "reproduce.json").write_text(json.dumps(document))
    facts = read_facts(tmp_path)
    assert facts is not None and facts.hash_version == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokens_per_second": 0.3}, "tokens_per_second = 0.3 cannot be"),
        ({"tokens_per_second": -6.5}, "tokens_per_second"),
        ({"tokens_per_second": float("nan")}, "NaN"),
        ({"tokens_per_second": float("inf")}, "Infinity"),
        ({"tokens_per_second": True}, "Expected `float`, got `bool`"),
        ({"target_rms": 0.0}, "target_rms = 0.0 cannot be"),
        ({"target_rms": 1.0}, "target_rms = 1.0 cannot be"),
        ({"eval_batch_seconds": 0}, "eval_batch_seconds"),
        ({"threads": 0}, "threads = 0 cannot be"),
        ({"step": -1}, "step = -1 cannot be"),
        ({"precision": "int1"}, "precision = 'int1' cannot be"),
        ({"normaliser": "none"}, "normaliser = 'none' cannot be"),
        ({"model": None}, "Expected `str`, got `null`"),
    ],
)
def test_what_no_trainer_would_have_written_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_facts(written(tmp_path, **changes))
    assert says in str(caught.value) and "reproduce.json" in str(caught.value)
