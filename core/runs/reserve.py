"""The reserve of a run: which part it has drawn, and what base model and adapter make of it.

Each accepted run draws the next part that no other has drawn: its rank in acceptance decides, and not its identity, by
which two runs could come to the same part while others lie unused. A part that was drawn is never given to another run,
even if the run is deleted: its result may have been seen. Copies of a run are that run. Which run drew which part lies
beside the runs; what the part is, in the run's own folder, which can so be judged elsewhere. Where one of the two is
lost the other is believed: a part that some run has drawn by either is no other's. Documents are believed as tuned
scores are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from core.errors import ManifestError, RunFolderError
from core.manifests.hashing import HashCache, lines_of, lines_sha256, manifest_sha256
from core.manifests.manifest import read_manifest
from core.manifests.sets import reserve_part
from core.plan.schema import DataSettings
from core.runs.folder import create_json, names
from core.runs.folder import read_json as read_inside
from core.runs.paths import RunPaths, RunsFolder
from core.runs.scores import Score, mappings, read_score
from core.sanitise import quoted
from core.scoring.certainty import Significance
from core.scoring.data_health import RESERVES
from core.scoring.evidence import Reserve, Thresholds, capped
from core.scoring.units import Unit
from core.system.files import read_json, stamp
from core.system.locks import held
from core.system.seals import hash_lines

WHO = ("base", "tuned")
_PARTS = next(one for one in fields(DataSettings) if one.name == "reserve_parts")
_MOST_PARTS: int = _PARTS.metadata["maximum"]


class SetDrawn(msgspec.Struct, frozen=True):
    """One set's part."""

    whole_sha256: str
    """Of the whole reserve manifest, as run.json records it."""
    manifest_sha256: str
    lines_sha256: str


class Drawn(msgspec.Struct, frozen=True):
    """What a run has drawn. `part` None: all were taken."""

    part: int | None
    of: int
    sets: dict[str, SetDrawn] = {}
    schema: int = 1


def draw(runs: RunsFolder, paths: RunPaths, hashes: Mapping[str, str], parts: int) -> int | None:
    """The run's part of the reserve, from 1: the one that it has, else the first that none has; None: all are taken.

    So are those of a reserve of which other runs have drawn when it was dealt into more parts, or fewer: it is the same
    speech. Two that draw at the same time, on two machines too, draw two parts.
    """
    root = runs.root.resolve()
    with held(runs.reserve_lock(_key(hashes, parts)), lambda: None):
        places = {part: _place(root, hashes, part, parts) for part in range(1, parts + 1)}
        for part, place in places.items():
            if _is_run(_owner(root, place), paths.name):
                return part
        seen = _drawn_by_others(root, paths, hashes)
        if any(of != parts for of, _ in seen) or _dealt_otherwise(root, hashes, parts):
            return None
        for part, place in places.items():
            if (parts, part) not in seen and create_json(root, place, {"run": paths.name}):
                return part
        return None


def _key(hashes: Mapping[str, str], parts: int) -> str:
    return hash_lines("reserve 1", [[hashes[name] for name in RESERVES.values()], [parts]])[:16]


def _place(root: Path, hashes: Mapping[str, str], part: int, parts: int) -> Path:
    return RunsFolder(root, root).reserve_part(_key(hashes, parts), part)


def _owner(root: Path, place: Path) -> object:
    return (read_inside(root, place)[0] or {}).get("run")


def _is_run(owner: object, name: str) -> bool:
    """Whether both are names of one run, by its identity: a copy under another name draws no part of its own."""
    return isinstance(owner, str) and owner.rpartition("-")[2] == name.rpartition("-")[2]


def _dealt_otherwise(root: Path, hashes: Mapping[str, str], parts: int) -> bool:
    others = (_place(root, hashes, 1, of).parent for of in range(1, _MOST_PARTS + 1) if of != parts)
    return any(names(root, folder) for folder in others)


def _drawn_by_others(root: Path, paths: RunPaths, hashes: Mapping[str, str]) -> dict[tuple[int, int], str]:
    """(of how many, which part) of this reserve → the run that has it, by the folders of other runs beside this one."""
    found = {}
    for run in RunsFolder(root, root).runs():
        drawn = None if _is_run(run.name, paths.name) else read_drawn(run)[0]
        if drawn is None or drawn.part is None:
            continue
        if all(name in drawn.sets and drawn.sets[name].whole_sha256 == hashes[role] for name, role in RESERVES.items()):
            found[drawn.of, drawn.part] = run.name
    return found


def _drawn_by_another(paths: RunPaths, drawn: Drawn, hashes: Mapping[str, Any]) -> str | None:
    """Which other run has the part that this one says it has drawn; None: none, as far as can be told here."""
    root, part = paths.root.absolute().parent.resolve(), drawn.part or 0
    of = {role: str(hashes.get(role)) for role in RESERVES.values()}
    place = _place(root, of, part, drawn.of)
    document, problem = read_inside(root, place)
    if problem is not None:
        return problem
    owner = None if document is None else document.get("run")
    if document is None:  # it may have come from elsewhere
        owner = None
        with contextlib.suppress(RunFolderError):  # nobody may list what lies beside it
            owner = _drawn_by_others(root, paths, of).get((drawn.of, part))
        where = f"{root / str(owner)}"
    else:
        where = str(place)
    if (document is None and owner is None) or _is_run(owner, paths.name):
        return None
    return f"{where}: part {part} of the reserve was drawn by another run, {quoted(owner)}"


def drawn_sets(data: DataSettings, hashes: Mapping[str, str], part: int, cache: HashCache) -> dict[str, SetDrawn]:
    """What is in a part of both reserve sets. ManifestError, AudioError, OSError."""
    found = {}
    for name, role in RESERVES.items():
        kept = reserve_part(read_manifest(Path(str(getattr(data, role)))), part, data.reserve_parts)
        found[name] = SetDrawn(hashes[role], manifest_sha256(kept, cache), lines_sha256(lines_of(kept)))
    return found


def read_drawn(paths: RunPaths) -> tuple[Drawn | None, str | None]:
    """(what the run has drawn, None), (None, what is wrong with the file), or (None, None) without one."""
    document, problem = read_json(paths.reserve_drawn)
    if document is None:
        return None, problem
    try:
        return msgspec.convert(document, Drawn), None
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        return None, f"{paths.reserve_drawn}: {error}: restore the file"


def reserve_of(
    paths: RunPaths, data: Mapping[str, Any], hashes: Mapping[str, Any], adapter: str | None, thresholds: Thresholds
) -> Reserve | None:
    """The evidence on the reserve; None where the run has none. Never raises for what is in files.

    `data`: the run's settings; `hashes`: of its manifests, by run.json; `adapter`: the hash of what is judged.
    """
    # The identity covers the hashes: without the path, which it does not, there is a reserve all the same.
    if not any(role in hashes or data.get(role) is not None for role in RESERVES.values()):
        return None
    drawn, problem = read_drawn(paths)
    if drawn is None:
        why = "it was not accepted when it ended, or has not ended"
        return Reserve(problem=_sentence(problem or f"The run was not scored on the reserve: {why}"))
    if drawn.part is None:
        taken = "No part of the reserve was left that no other accepted run had drawn"
        return Reserve(of=drawn.of, problem=f"{taken}: bring speech that no run has seen.")
    try:
        parts = data.get(_PARTS.name, _PARTS.default)
        if drawn.of != parts:
            raise ValueError(f"{paths.reserve_drawn}: has {drawn.of} parts, run.json {parts}")
        scores = _scores(paths, drawn, hashes, adapter)
        significance = _significance(paths, scores, thresholds)
    except ValueError as error:
        return Reserve(drawn.part, drawn.of, problem=_sentence(str(error)))
    counts = {key: score.counts.plain for key, score in scores.items()}
    return Reserve(
        drawn.part,
        drawn.of,
        baseline_domain=counts["domain", "base"],
        baseline_heldout=counts["heldout", "base"],
        tuned_domain=counts["domain", "tuned"],
        tuned_heldout=counts["heldout", "tuned"],
        significance=significance,
        caps=tuple(
            capped(RESERVES[name], who, score.capped_texts, len(score.utterances))
            for (name, who), score in scores.items()
        ),
    )


Scores = Mapping[tuple[str, str], Score]
"""By domain or heldout, and base or tuned."""


def _scores(paths: RunPaths, drawn: Drawn, hashes: Mapping[str, Any], adapter: str | None) -> Scores:
    """The documents, if they are what run.json, the draw and the tuned scores say. ValueError, with the reason."""
    scores: dict[tuple[str, str], Score] = {}
    for name in RESERVES:
        for who in WHO:
            score, problem = read_score(paths.reserve(name, who))
            if score is None:
                raise ValueError(problem)
            scores[name, who] = score
    if wrong := next(_wrong(paths, drawn, scores, hashes, adapter), None) or _drawn_by_another(paths, drawn, hashes):
        raise ValueError(wrong)
    return scores


def _significance(paths: RunPaths, scores: Scores, thresholds: Thresholds) -> Significance:
    """How sure gain and regression are. ValueError where the texts do not bear it out."""
    unit = scores["domain", "base"].unit
    if unit is not thresholds.unit:
        raise ValueError(f"the reserve was scored in {unit.plural}, the gate counts {thresholds.unit.plural}")
    try:
        stamps = tuple(stamp(paths.reserve(*key).lstat()) for key in scores)
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read: {error.strerror}") from error
    found, problem = _assessed(paths, thresholds, stamps)
    if found is None:
        raise ValueError(problem)
    return found


def _sentence(problem: str) -> str:
    return f"{problem.removesuffix('.')}."


def _wrong(
    paths: RunPaths,
    drawn: Drawn,
    scores: Scores,
    hashes: Mapping[str, Any],
    adapter: str | None,
) -> Iterator[str]:
    """One sentence for each thing in the documents that run.json, the draw or the tuned scores do not say."""
    if drawn.of < 1 or not 1 <= (drawn.part or 0) <= drawn.of or drawn.sets.keys() != RESERVES.keys():
        yield f"{paths.reserve_drawn}: there is no such part of a reserve"
        return
    for name, role in RESERVES.items():
        whole = drawn.sets[name].whole_sha256
        if whole != hashes.get(role):
            yield f"{paths.reserve_drawn}: was drawn from another {role} than run.json records"
        base, tuned = (scores[name, who] for who in WHO)
        ordinary, problem = read_score(paths.tuned(name))
        for who, score in zip(WHO, (base, tuned), strict=True):
            path = paths.reserve(name, who)
            of = (drawn.sets[name].manifest_sha256, drawn.sets[name].lines_sha256)
            if (score.manifest_sha256, score.lines_sha256) != of:
                yield f"{path}: not of the part that was drawn"
            wanted: dict[str, Any] = {"dataset": role}
            wanted |= {"step": 0, "adapter_hash": None} if who == "base" else {"adapter_hash": adapter}
            if ordinary is not None:
                more = ("normaliser", "fingerprint", "unit", "precision", *(["step"] if who == "tuned" else []))
                wanted |= {key: getattr(ordinary, key) for key in more}
            for key, value in wanted.items():
                if getattr(score, key) != value:
                    yield f"{path}: its {key} is {quoted(_plain(getattr(score, key)))}, not {quoted(_plain(value))}"
            if ordinary is None:
                yield str(problem)
            elif _decoding(score) != _decoding(ordinary):
                yield f"{path}: was decoded otherwise than the run's {name} set"
        if base.conditions != tuned.conditions:
            yield f"{paths.reserve(name, 'tuned')}: was decoded otherwise than the base model's score"
        if (differing := base.differing_clip(tuned)) is not None:
            yield f"{paths.reserve(name, 'tuned')}: not the clips of the base model's score: {differing}"


def _decoding(score: Score) -> dict[str, Any]:
    """Without the longest length of a transcript, which follows from the clips of a set."""
    found: dict[str, Any] = msgspec.to_builtins(score.decode)
    return {key: value for key, value in found.items() if key != "max_tokens"}


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Unit) else msgspec.to_builtins(value)


# A dashboard asks again every second.
@lru_cache(maxsize=32)
def _assessed(
    paths: RunPaths, thresholds: Thresholds, _stamps: tuple[tuple[int, ...], ...]
) -> tuple[Significance | None, str | None]:
    """How sure gain and regression are, counted from the documents' own texts."""
    from core.scoring.assess import Documents, assess
    from core.scoring.text import normaliser

    sets: dict[str, Documents] = {}
    try:
        for name in RESERVES:
            base, tuned = (read_score(paths.reserve(name, who))[0] for who in WHO)
            if base is None or tuned is None:
                return None, f"{paths.reserve(name, 'tuned')}: changed while it was read"
            text, unit = normaliser(tuned.normaliser.name), tuned.unit
            if text.version != tuned.normaliser.version:
                return None, f"{paths.reserve(name, 'tuned')}: scored with another version of the normaliser"
            sets[name] = Documents(mappings(base.utterances), mappings(tuned.utterances), ())
        return assess(sets["domain"], sets["heldout"], {}, thresholds, text, "reserve", scored=unit), None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return None, f"{paths.reserve_drawn.parent}: {error}"


def other_part(paths: RunPaths, data: DataSettings) -> str | None:
    """Why what the run was scored on is not its part of the reserve that `data`, of a plan, names; None: it is.

    None too where the run has drawn none, or the manifests cannot be read here. Audio is not looked at.
    """
    drawn, _ = read_drawn(paths)
    if drawn is None or drawn.part is None or not 1 <= drawn.part <= drawn.of <= _MOST_PARTS:
        return None
    for name, role in RESERVES.items():
        path = getattr(data, role)
        try:
            told = None if path is None else _lines_of(Path(path), drawn.part, drawn.of, stamp(Path(path).stat()))
        except OSError:
            continue
        if told is not None and name in drawn.sets and told != drawn.sets[name].lines_sha256:
            return f"{paths.reserve_drawn}: not part {drawn.part} of {drawn.of} of {path}"
    return None


# A dashboard asks again every second.
@lru_cache(maxsize=64)
def _lines_of(path: Path, part: int, parts: int, _stamp: tuple[int, ...]) -> str | None:
    try:
        return lines_sha256(lines_of(reserve_part(read_manifest(path, check_audio=False), part, parts)))
    except ManifestError:
        return None


def wrong_draw(paths: RunPaths, data: DataSettings, hashes: Mapping[str, str], cache: HashCache) -> Iterator[str]:
    """Whether the part is that of the manifests, where they are here. ManifestError, AudioError, OSError: not here."""
    drawn, _ = read_drawn(paths)
    if drawn is None or drawn.part is None:
        return
    if drawn.of != data.reserve_parts or not 1 <= drawn.part <= drawn.of:
        raise ManifestError(f"{paths.reserve_drawn}: has {drawn.of} parts, run.json {data.reserve_parts}")
    if drawn_sets(data, hashes, drawn.part, cache) != drawn.sets:
        yield f"{paths.reserve_drawn}: not part {drawn.part} of the reserve sets that run.json names"
