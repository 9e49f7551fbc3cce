"""How sure a run's WER criteria are: computed once from its score documents, then kept beside them.

Computing takes most of a second, so the figures are stored under the hash of what they were computed from. A
stored file that does not bear out its own checksum is computed anew. A folder that cannot be written stays as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.runs.files import read_json, write_json
from core.runs.paths import RunPaths
from core.scoring.certainty import Certainty, Significance, SliceScore
from core.scoring.evidence import Thresholds

SCHEMA_VERSION = 1
METHOD_VERSION = 3
"""Raise it whenever the same documents and thresholds would give other figures."""
_SETS = ("domain", "heldout", "selection")


@dataclass(frozen=True, slots=True)
class Assessed:
    """The figures, or why there are none."""

    significance: Significance | None
    problem: str | None = None
    edited: bool = False
    """A document's counts are not those of its own texts: no score of the run can be believed."""


def assess_run(paths: RunPaths, steps: Sequence[int], thresholds: Thresholds) -> Assessed:
    """How sure the WER criteria of a scored run are. `steps`: its intervals ≥ 1. Never raises for what is in files."""
    try:
        digests = tuple((str(file), _sha256(file)) for file in _documents(paths, steps))
    except OSError as error:
        return Assessed(None, f"{error.filename}: cannot be read, so how sure the WERs are cannot be told")
    return _assess(paths.root, digests, tuple(steps), thresholds)


def fresh(paths: RunPaths, steps: Sequence[int], thresholds: Thresholds) -> Assessed:
    """Computed from the documents, whatever is stored; nothing is written."""
    return _compute(paths, steps, thresholds, "")


def stored(paths: RunPaths, steps: Sequence[int], thresholds: Thresholds) -> Significance | None:
    """What is stored for these documents and thresholds, whether or not it is right."""
    digests = tuple((str(file), _sha256(file)) for file in _documents(paths, steps))
    return _read(paths.significance(_key(paths.root, digests, thresholds)), None)


def _documents(paths: RunPaths, steps: Sequence[int]) -> list[Path]:
    names = [name for name in _SETS if name != "selection" or paths.evaluation(0, name).exists()]
    tuned = [paths.tuned(name) for name in names if name != "selection"]
    return [*tuned, *(paths.evaluation(step, name) for step in (0, *steps) for name in names)]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _key(root: Path, digests: Sequence[tuple[str, str]], thresholds: Thresholds) -> str:
    """Over contents and names within the run folder, so that a copied folder keeps its figures."""
    what = {
        "method": METHOD_VERSION,
        "documents": [[str(Path(name).relative_to(root)), digest] for name, digest in digests],
        "thresholds": [
            thresholds.domain_gain_pp,
            thresholds.heldout_regression_pp,
            thresholds.block_by,
            thresholds.confidence,
            [asdict(rule) for rule in thresholds.slices],
        ],
    }
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


# A dashboard asks again every second, for figures that may be missing too.
@lru_cache(maxsize=64)
def _assess(
    root: Path, digests: tuple[tuple[str, str], ...], steps: tuple[int, ...], thresholds: Thresholds
) -> Assessed:
    paths = RunPaths(root)
    key = _key(root, digests, thresholds)
    file = paths.significance(key)
    kept = _read(file, key)
    if kept is not None:
        return Assessed(kept)
    found = _compute(paths, steps, thresholds, key)
    if found.significance is not None:
        content = asdict(found.significance)
        with contextlib.suppress(OSError):
            write_json(file, {"schema": SCHEMA_VERSION, "checksum": _checksum(content), "significance": content})
    return found


def _read(file: Path, key: str | None) -> Significance | None:
    """The figures in `file`, if it is whole, unchanged and of this key."""
    document, _ = read_json(file)
    content = (document or {}).get("significance")
    if document is None or document.get("schema") != SCHEMA_VERSION or not isinstance(content, dict):
        return None
    if key is not None and (document.get("checksum") != _checksum(content) or content.get("key") != key):
        return None
    try:
        sets = {name: Certainty(**content[name]) for name in ("domain", "heldout")}
        slices = tuple(
            SliceScore(**item | {"certainty": c if (c := item["certainty"]) is None else Certainty(**c)})
            for item in content["slices"]
        )
        return Significance(**sets, resamples=content["resamples"], key=content["key"], slices=slices)
    except (TypeError, KeyError):
        return None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _compute(paths: RunPaths, steps: Sequence[int], thresholds: Thresholds, key: str) -> Assessed:
    # Aligning words takes jiwer and rapidfuzz, which a stored answer does without.
    from core.scoring.assess import Documents, RecountError, assess
    from core.scoring.text import normaliser

    where = paths.root
    try:
        parsed = {file: json.loads(file.read_bytes()) for file in _documents(paths, steps)}
        first = parsed[paths.evaluation(0, "domain")]
        text = normaliser(first["normaliser"]["name"])
        if first["normaliser"]["version"] != text.version:
            written = first["normaliser"]["version"]
            return Assessed(None, f"{where}: scored with version {written} of {text.name}, this is {text.version}")
        sets: dict[str, Documents] = {}
        for name in _SETS:
            if name != "selection" or paths.evaluation(0, name) in parsed:
                tuned = None if name == "selection" else parsed[paths.tuned(name)]["utterances"]
                intervals = [parsed[paths.evaluation(step, name)]["utterances"] for step in steps]
                sets[name] = Documents(parsed[paths.evaluation(0, name)]["utterances"], tuned, intervals)
        found = assess(sets["domain"], sets["heldout"], sets.get("selection"), thresholds, text, key)
    except RecountError as error:
        return Assessed(None, f"{where / 'evals'}: {error}: a score document was edited", edited=True)
    except OSError as error:
        return Assessed(None, f"{error.filename}: cannot be read, so how sure the WERs are cannot be told")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Assessed(None, f"{where / 'evals'}: how sure the WERs are cannot be told: {error}")
    return Assessed(found)
