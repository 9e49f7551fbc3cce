"""How sure a run's WER criteria are: computed once from its score documents, then kept beside them.

Computing takes most of a second, so the figures are stored under the hash of what they were computed from, sealed with
a secret of this machine. A stored file that was not sealed here, as in a run folder from elsewhere, is never believed:
its figures are computed anew. A folder that cannot be written stays as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.runs.files import SCORES_BYTES, parse_json, read_bytes, read_json
from core.runs.folder import write_json
from core.runs.machine_key import machine_key, name_of, seal
from core.runs.paths import RunPaths
from core.scoring.certainty import Certainty, SetSpelling, Significance, SliceScore
from core.scoring.evidence import Thresholds

SCHEMA_VERSION = 2
METHOD_VERSION = 4
"""Raise it whenever the same documents and thresholds would give other figures."""
_SETS = ("domain", "heldout", "selection")


@dataclass(frozen=True, slots=True)
class Assessed:
    """The figures, or why there are none."""

    significance: Significance | None
    problem: str | None = None
    edited: bool = False
    """A document's counts are not those of its own texts, or cannot be made again: no score can be believed."""


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
    return _figures(_content(paths.significance(_key(paths.root, digests, thresholds))))


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


def _documents(paths: RunPaths, steps: Sequence[int]) -> list[Path]:
    names = [name for name in _SETS if name != "selection" or paths.evaluation(0, name).exists()]
    tuned = [paths.tuned(name) for name in names if name != "selection"]
    return [*tuned, *(paths.evaluation(step, name) for step in (0, *steps) for name in names)]


def _sha256(file: Path) -> str:
    return hashlib.sha256(read_bytes(file, SCORES_BYTES)).hexdigest()


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
    secret = machine_key()
    kept = None if secret is None else _figures(_sealed(file, key, secret))
    if kept is not None:
        return Assessed(kept)
    found = _compute(paths, steps, thresholds, key)
    if found.significance is not None:
        content = json.loads(json.dumps(asdict(found.significance)))
        # Machines that share a folder seal the same figures, each for itself.
        seals = _seals(file) if _content(file) == content else {}
        seals |= {} if secret is None else {name_of(secret): seal(secret, _bytes(content))}
        with contextlib.suppress(OSError):
            write_json(root, file, {"schema": SCHEMA_VERSION, "significance": content, "seals": seals})
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
    written = str(_seals(file).get(name_of(secret))).encode("utf-8", "replace")
    return content if hmac.compare_digest(written, seal(secret, _bytes(content)).encode()) else None


def _figures(content: Mapping[str, Any] | None) -> Significance | None:
    if content is None:
        return None
    try:
        sets = {name: Certainty(**content[name]) for name in ("domain", "heldout")}
        slices = tuple(
            SliceScore(**item | {"certainty": c if (c := item["certainty"]) is None else Certainty(**c)})
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


def _bytes(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _compute(paths: RunPaths, steps: Sequence[int], thresholds: Thresholds, key: str) -> Assessed:
    # Aligning words takes jiwer and rapidfuzz, which a stored answer does without.
    from core.scoring.assess import Documents, RecountError, assess
    from core.scoring.text import normaliser

    where = paths.root
    try:
        parsed = {file: parse_json(read_bytes(file, SCORES_BYTES)) for file in _documents(paths, steps)}
        first = parsed[paths.evaluation(0, "domain")]
        text = normaliser(first["normaliser"]["name"])
        if first["normaliser"]["version"] != text.version:
            written = first["normaliser"]["version"]
            told = f"{where}: scored with version {written} of the normaliser {text.name}, this is {text.version}: "
            return Assessed(None, f"{told}its counts cannot be made again from its texts: train again", edited=True)
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
