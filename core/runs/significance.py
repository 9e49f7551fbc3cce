"""How sure a run's WER criteria are: computed once from its score documents, then kept beside them.

Computing takes most of a second, so the figures are stored under the hash of what they were computed from, sealed with
a secret of this machine. A stored file that was not sealed here, as in a run folder from elsewhere, is never believed:
its figures are computed anew. A folder that cannot be written stays as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.runs.consistency import Reported, ScoreKey, wrong_score
from core.runs.folder import sha256_of, write_json
from core.runs.paths import RunPaths
from core.runs.scores import Score, mappings, read_score
from core.scoring.certainty import Certainty, SetSpelling, Significance, SliceScore
from core.scoring.data_health import TAKEN_FROM
from core.scoring.evidence import Thresholds
from core.scoring.units import Unit
from core.system.files import read_json
from core.system.seals import machine_key, name_of, seal, sealed_by

SCHEMA_VERSION = 3
METHOD_VERSION = 8
"""Raise it whenever the same documents and thresholds would give other figures."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """The figures, or why there are none."""

    significance: Significance | None
    problem: str | None = None
    believed: bool = True
    """False: a document is missing, or not what its texts, the events or the others say: no score can be believed."""


def assess_run(paths: RunPaths, reported: Reported, thresholds: Thresholds) -> Assessed:
    """How sure the WER criteria of a scored run are. Never raises for what is in files.

    All score documents must be of the same clips and bear out their own texts, the events and run.json.
    """
    try:
        key = _key(paths, reported, thresholds)
    except OSError as error:
        return Assessed(None, _unreadable(error), believed=False)
    return _assess(paths, reported, thresholds, key)


def fresh(paths: RunPaths, reported: Reported, thresholds: Thresholds) -> Assessed:
    """Computed from the documents, whatever is stored; nothing is written."""
    return _compute(paths, reported, thresholds, "")


def stored(paths: RunPaths, reported: Reported, thresholds: Thresholds) -> Significance | None:
    """What is stored for these documents and thresholds, whether or not it is right. OSError for missing documents."""
    return _figures(_content(paths.significance(_key(paths, reported, thresholds))))


def alike(one: Significance, other: Significance) -> bool:
    """Whether the figures are the same, but for the last digits in which processors differ. Keys are not compared."""
    return _alike(asdict(one) | {"key": ""}, asdict(other) | {"key": ""})


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)


def _key(paths: RunPaths, reported: Reported, thresholds: Thresholds) -> str:
    """Over contents and names within the run folder, so that a copied folder keeps its figures. OSError."""
    documents = [place.path(paths) for place in reported.score_keys]
    what = {
        "method": METHOD_VERSION,
        "documents": [[file.relative_to(paths.root).as_posix(), sha256_of(file)] for file in documents],
        # without an export as it always was, so that what is stored is found
        "told": {name: value for name, value in asdict(reported).items() if name != "export" or value},
        "thresholds": [
            thresholds.domain_gain_pp,
            thresholds.heldout_regression_pp,
            thresholds.block_by,
            thresholds.confidence,
            thresholds.unit,
            [asdict(rule) for rule in thresholds.slices],
        ],
    }
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _unreadable(error: OSError) -> str:
    return f"{error.filename}: cannot be read, so how sure the error rates are cannot be told"


# A dashboard asks again every second, for figures that may be missing too.
@lru_cache(maxsize=64)
def _assess(paths: RunPaths, reported: Reported, thresholds: Thresholds, key: str) -> Assessed:
    file = paths.significance(key)
    secret = machine_key()
    kept = None if secret is None else _figures(_sealed(file, key, secret))
    if kept is not None:
        return Assessed(kept)
    found = _compute(paths, reported, thresholds, key)
    if found.significance is not None:
        content = json.loads(json.dumps(asdict(found.significance)))
        # Machines that share a folder seal the same figures, each for itself.
        seals = _seals(file) if _content(file) == content else {}
        seals |= {} if secret is None else {name_of(secret): seal(secret, _bytes(content))}
        with contextlib.suppress(OSError):
            write_json(paths.root, file, {"schema": SCHEMA_VERSION, "significance": content, "seals": seals})
    return found


def _content(file: Path) -> dict[str, Any] | None:
    """What is stored in `file`, if it is of this schema; nobody has vouched for it."""
    document, _ = read_json(file)
    content = (document or {}).get("significance")
    return content if document and document.get("schema") == SCHEMA_VERSION and isinstance(content, dict) else None


def _seals(file: Path) -> dict[str, Any]:
    document, _ = read_json(file)
    seals = (document or {}).get("seals")
    return seals if isinstance(seals, dict) else {}


def _sealed(file: Path, key: str, secret: bytes) -> dict[str, Any] | None:
    """The content of `file`, if this machine computed it for this key."""
    content = _content(file)
    if content is None or content.get("key") != key:
        return None
    return content if sealed_by(secret, _seals(file), _bytes(content)) else None


def _figures(content: Mapping[str, Any] | None) -> Significance | None:
    if content is None:
        return None
    try:
        sets = {name: _certainty(content[name]) for name in ("domain", "heldout")}
        slices = tuple(
            SliceScore(**item | {"certainty": c if (c := item["certainty"]) is None else _certainty(c)})
            for item in content["slices"]
        )
        spelling = tuple(
            SetSpelling(**item | {"others": tuple((str(name), float(rise)) for name, rise in item["others"])})
            for item in content["spelling"]
        )
        return Significance(
            **sets, resamples=content["resamples"], key=content["key"], slices=slices, spelling=spelling
        )
    except (TypeError, KeyError, ValueError):
        return None


def _certainty(content: Mapping[str, Any]) -> Certainty:
    return Certainty(**{**content, "unit": Unit(content["unit"])})


def _bytes(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _compute(paths: RunPaths, reported: Reported, thresholds: Thresholds, key: str) -> Assessed:
    # Aligning words takes jiwer and rapidfuzz, which a stored answer does without.
    from core.scoring.assess import Documents, RecountError, assess
    from core.scoring.text import normaliser

    where = paths.evals
    scores: dict[ScoreKey, Score] = {}
    for place in reported.score_keys:
        score, problem = read_score(place.path(paths))
        if score is not None:
            base = None if place.step == 0 else scores[place.baseline]
            problem = next(wrong_score(paths, place, score, base, reported), None)
        if score is None or problem is not None:
            return Assessed(None, problem, believed=False)
        scores[place] = score
    first = scores[ScoreKey("domain", 0)].normaliser
    try:
        text = normaliser(first.name)
    except ValueError as error:
        return Assessed(None, f"{where}: {error}", believed=False)
    if first.version != text.version:
        other = f"scored with version {first.version} of the normaliser {text.name}, this is {text.version}"
        why = "its counts cannot be made again from its texts: train again"
        return Assessed(None, f"{where}: {other}: {why}", believed=False)
    try:
        sets: dict[str, Documents] = {}
        for name in reported.sets:
            tuned = scores.get(reported.tuned(name))
            baseline, *intervals = (mappings(scores[place].utterances) for place in reported.intervals_of(name))
            sets[name] = Documents(baseline, None if tuned is None else mappings(tuned.utterances), intervals)
        found = assess(
            sets["domain"],
            sets["heldout"],
            {name: one for name, one in sets.items() if name in TAKEN_FROM},
            thresholds,
            text,
            key,
            reported.together,
            scored=reported.unit,
        )
    except RecountError as error:
        return Assessed(None, f"{where}: {error}: a score document was edited", believed=False)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Assessed(None, f"{where}: how sure the error rates are cannot be told: {error}")
    return Assessed(found)
