"""Whether the files of a run bear each other out: counts and utterances, hashes, links, events and result.

Finds edits that are not consistent. Whoever changes all the files of a run alike stays unseen unless the run is signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import RunFolderError, UserError
from core.runs.adapter_hash import adapter_hash
from core.runs.consistency import recorded_hashes, wrong_identity, wrong_result
from core.runs.data_health import audited_hashes
from core.runs.events import decode
from core.runs.evidence import Gathered, gather
from core.runs.files import SCORES_BYTES, lines, open_regular, read_json
from core.runs.fold import counts_of
from core.runs.folder import LinkError, linked_adapter
from core.runs.model_hash import model_hash
from core.runs.paths import ADAPTER_FACTS, RunPaths
from core.runs.position import positions_differ
from core.runs.significance import alike, fresh, stored
from core.runs.signing import Keys, Signature, check
from core.runs.snapshot import RunSnapshot, RunState
from core.runs.store import read_run
from core.scoring.evidence import SetScore, Thresholds, Verdict
from core.scoring.verdict import best_interval, judge, thresholds_of
from core.speech.hashing import HashCache, manifest_sha256
from core.speech.manifest import read_manifest


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found, and the verdict recomputed from the files."""

    snapshot: RunSnapshot
    gathered: Gathered
    verdict: Verdict
    problems: tuple[str, ...]
    """One sentence for each thing that does not hold together; empty: consistent."""
    unchecked: tuple[str, ...]
    """What could not be hashed again, because it is not on this machine."""
    signature: Signature


def verify(paths: RunPaths, cache: HashCache, keys: Keys) -> Verification:
    """Check the run, and its signature as far as `keys` allow. RunFolderError when there is no run in the folder."""
    if not paths.config.is_file():
        raise RunFolderError(f"{paths.root}: no run folder: it holds no {paths.config.name}; name runs/<run>")
    snapshot = read_run(paths)
    thresholds = _thresholds(snapshot)
    # Before anything puts figures of its own in their place.
    wrong_figures = list(_significance(paths, snapshot, thresholds))
    gathered = gather(snapshot, paths, thresholds=thresholds)
    verdict = judge(gathered.evidence, thresholds)
    unchecked: list[str] = []
    if not (snapshot.state is RunState.DONE or snapshot.state.broken):
        unchecked.append(f"the run has not ended ({snapshot.state}): its verdict is not the last word")
    signature = check(paths, keys)
    unchecked += [signature.gap] if signature.gap is not None else []
    problems = [
        *gathered.problems,
        *wrong_identity(snapshot),
        *_events(paths, snapshot),
        *_scores(paths, snapshot),
        *wrong_figures,
        *_adapters(paths, snapshot),
        *_result(paths, snapshot, gathered, thresholds),
        *_contents(snapshot, cache, unchecked),
        *([signature.problem] if signature.problem is not None else []),
        *_data_health(paths, snapshot, cache, unchecked),
        *([f"{paths.position}: not what the score documents give"] if positions_differ(paths) else []),
    ]
    return Verification(snapshot, gathered, verdict, tuple(dict.fromkeys(problems)), tuple(unchecked), signature)


def _thresholds(snapshot: RunSnapshot) -> Thresholds:
    try:
        return thresholds_of((snapshot.config or {}).get("gate") or {})
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"{snapshot.paths.config}: gate: {error}: restore the file") from error


def _events(paths: RunPaths, snapshot: RunSnapshot) -> Iterator[str]:
    """Every whole line is an event; what a trainer's death tore off the last one is none, and no fault."""
    if snapshot.foreign_lines == 0:
        return  # nor is a line that an attempt wrote late, after another one took over
    with open_regular(paths.events) as file:
        numbers = [
            number
            for number, line in enumerate(lines(file), 1)
            if line.endswith(b"\n") and line.strip() and decode(line.decode("utf-8", "replace")) is None
        ]
    if numbers:
        more = f", nor {'is' if len(numbers) == 2 else 'are'} {len(numbers) - 1} more" if len(numbers) > 1 else ""
        yield f"{paths.events}: line {numbers[0]} is no event that a trainer writes{more}"


def _scores(paths: RunPaths, snapshot: RunSnapshot) -> Iterator[str]:
    """The score documents are of the run's manifests, and of the counts and losses that the events tell."""
    for interval in snapshot.intervals:
        for name in ("domain", "heldout", "selection"):
            said: SetScore | None = getattr(interval, name)
            if said is not None:
                yield from _document(paths.evaluation(interval.step, name), name, interval.step, said, snapshot)
    for name in ("domain", "heldout"):
        if paths.tuned(name).exists():
            yield from _document(paths.tuned(name), name, None, None, snapshot)


def _document(path: Path, name: str, step: int | None, said: SetScore | None, snapshot: RunSnapshot) -> Iterator[str]:
    document, problem = read_json(path, SCORES_BYTES)
    if document is None:
        yield problem or f"{path}: missing"
        return
    wanted: dict[str, Any] = {"dataset": name, "manifest_sha256": recorded_hashes(snapshot).get(name)}
    if said is not None:
        wanted |= {"step": step, "loss": said.loss}
    for key, value in wanted.items():
        if document.get(key) != value:
            yield f"{path}: its {key} is {document.get(key)!r}, the run's is {value!r}"
    try:
        if said is not None and counts_of(document["counts"]) != said.counts:
            yield f"{path}: its counts are not those of the interval event of step {step}"
    except (ValueError, KeyError, AttributeError) as error:
        yield f"{path}: its counts cannot be read: {error}"


def _significance(paths: RunPaths, snapshot: RunSnapshot, thresholds: Thresholds) -> Iterator[str]:
    """Texts recounted; what is stored of how sure the WERs are is what they give."""
    if not all(paths.tuned(name).exists() for name in ("domain", "heldout")):
        return
    steps = [interval.step for interval in snapshot.intervals if interval.step > 0]
    computed = fresh(paths, steps, thresholds)
    if computed.problem is not None or computed.significance is None:
        yield computed.problem or ""
        return
    kept = stored(paths, steps, thresholds)
    if kept is not None and not alike(kept, computed.significance):
        yield f"{paths.evals}: what is stored of how sure the WERs are is not what the score documents give"


def _adapters(paths: RunPaths, snapshot: RunSnapshot) -> Iterator[str]:
    """The adapters on disk are those that the trainer told of; the links lead to them."""
    for saved in snapshot.adapters:
        folder = paths.adapter(saved.step)
        if folder.is_dir():
            try:
                if adapter_hash(folder) != saved.hash:
                    yield f"{folder}: changed since it was saved"
            except RunFolderError as error:
                yield str(error)
    facts, problem = read_json(paths.best / ADAPTER_FACTS)
    if problem is not None:
        yield problem
    wanted: dict[str, Any] = {"identity": snapshot.identity, "model_hash": recorded_hashes(snapshot).get("model")}
    wanted["step"] = _step(paths, paths.best)
    for key, value in wanted.items():
        if facts is not None and facts.get(key) != value:
            yield f"{paths.best / ADAPTER_FACTS}: its {key} is {facts.get(key)!r}, the run's is {value!r}"
    for link in (paths.best, paths.last):
        try:
            linked_adapter(paths, link)
        except LinkError as error:
            yield str(error)


def _step(paths: RunPaths, link: Path) -> int | None:
    try:
        return linked_adapter(paths, link)
    except LinkError:
        return None


def _result(paths: RunPaths, snapshot: RunSnapshot, gathered: Gathered, thresholds: Thresholds) -> Iterator[str]:
    """result.json says what the events and the adapter say."""
    if snapshot.result is None:
        said = snapshot.final is not None and snapshot.final.outcome == "done"
        if said and not snapshot.state.active and not paths.result.exists():
            yield f"{paths.result}: missing, though the events say that the run is finished"
        return
    best, kept = best_interval(snapshot.intervals, thresholds)
    yield from wrong_result(snapshot, gathered.evidence.artifact, {"best_step": best, "guardrail_kept": kept})
    for step in gathered.evidence.missing_intervals:
        yield f"{paths.events}: the interval of step {step} is missing"
    if _step(paths, paths.best) != best:
        yield f"{paths.best}: leads to step {_step(paths, paths.best)}, the best interval is step {best}"


def _data_health(paths: RunPaths, snapshot: RunSnapshot, cache: HashCache, unchecked: list[str]) -> Iterator[str]:
    """The audit is that of the run's sets: made again where they are all here."""
    document, _ = read_json(paths.data_health)
    if document is None:
        return
    from core.speech.audio import TARGET_RMS
    from core.speech.health_audit import METHOD_VERSION, health_document, health_key

    hashes = audited_hashes(snapshot.config)
    data = snapshot.settings.get("data")
    data = data if isinstance(data, dict) else {}
    manifests = {name: Path(str(data.get(name))) for name in hashes if name in data}
    target_rms = data.get("target_rms", TARGET_RMS)
    here = len(manifests) == len(hashes) > 0 and all(path.is_file() for path in manifests.values())
    if document.get("method") != METHOD_VERSION or not here or not isinstance(target_rms, (int, float)):
        unchecked.append(f"audit of the data: taken as recorded (method {document.get('method')}; sets not all here)")
        return
    try:
        key = health_key(manifests, hashes, target_rms, cache, lambda done, total: None)
        if health_document(manifests, hashes, target_rms, key) != document:
            yield f"{paths.data_health}: not what the audit of the run's sets gives"
    except UserError as error:
        unchecked.append(f"audit of the data: cannot be made here: {str(error).splitlines()[0]}")


def _contents(snapshot: RunSnapshot, cache: HashCache, unchecked: list[str]) -> Iterator[str]:
    """Model and manifests, audio and all, are what they were, as far as they are here."""
    data, model = snapshot.settings.get("data"), snapshot.settings.get("model")
    paths: dict[str, Any] = {"model": model.get("id") if isinstance(model, dict) else None}
    paths |= (
        {key: value for key, value in data.items() if key in recorded_hashes(snapshot)}
        if isinstance(data, dict)
        else {}
    )
    for name, digest in sorted(recorded_hashes(snapshot).items()):
        written = paths.get(name)
        path = Path(str(written))
        if written is None or not path.exists():
            unchecked.append(f"{name}: not on this machine ({written}), so its hash was taken as recorded")
            continue
        try:
            now = model_hash(path, cache) if name == "model" else manifest_sha256(read_manifest(path), cache)
            if now != digest:
                yield f"{path}: the content of {name} is not that which the run was made with"
        except UserError as error:
            first, *more = str(error).splitlines()
            extra = f" (and {len(more)} more problems)" if more else ""
            unchecked.append(f"{name}: cannot be hashed here: {first}{extra}")
