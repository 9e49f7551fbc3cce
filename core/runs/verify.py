"""Whether the files of a run bear each other out: counts and utterances, hashes, links, events and result.

Finds edits that are not consistent. Whoever changes all the files of a run alike stays unseen unless the run is signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import ManifestError, ModelError, RunFolderError, UserError
from core.manifests.hashing import HashCache, lines_of, lines_sha256, manifest_file_hashes, manifest_sha256
from core.manifests.sets import is_parted, read_set, set_paths
from core.plan.identity import settings_from
from core.plan.schema import DataSettings
from core.runs.adapter_files import adapter_hash, read_facts
from core.runs.choice import best_of
from core.runs.consistency import (
    possible_candidates,
    recorded_hashes,
    reported_by,
    wrong_facts,
    wrong_identity,
    wrong_result,
    wrong_score,
)
from core.runs.contents import LANGUAGES
from core.runs.data_health import audited_hashes, believed
from core.runs.events import decode
from core.runs.evidence import listed
from core.runs.exports import changed_export, exports_of, read_export, wrong_export, wrong_interval
from core.runs.folder import LinkError, linked_adapter
from core.runs.judged import Judged, judged, recorded_thresholds
from core.runs.model_files import model_hash
from core.runs.paths import ADAPTER_FACTS, RunPaths, adapter_step, adapter_words, step_name
from core.runs.position import positions_differ
from core.runs.reserve import wrong_draw
from core.runs.scores import read_score
from core.runs.significance import alike, fresh, stored
from core.runs.signing import Keys, Signature, check
from core.runs.snapshot import RunSnapshot
from core.runs.status import Status
from core.runs.store import read_run
from core.scoring.data_health import copies_sentence, leak_sentence
from core.scoring.evidence import Thresholds, Verdict
from core.system.files import exists, is_file, lines, open_regular, read_json


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found, and the verdict recomputed from the files."""

    judged: Judged
    problems: tuple[str, ...]
    """One sentence for each thing that does not hold together; empty: consistent."""
    unchecked: tuple[str, ...]
    """What could not be hashed again, because it is not on this machine."""
    signature: Signature
    served: tuple[str, ...] = ()
    """Exports that were decoded again, and say what they said."""

    @property
    def verdict(self) -> Verdict:
        """The verdict, computed again from the files."""
        return self.judged.verdict


def verify(paths: RunPaths, cache: HashCache, keys: Keys) -> Verification:
    """Check the run, and its signature as far as `keys` allow. RunFolderError when there is no run in the folder.

    Every check either ran, or stands in `unchecked` with the reason why not.
    """
    if not is_file(paths.config):
        raise RunFolderError(f"{paths.root}: no run folder: it holds no {paths.config.name}; name runs/<run>")
    snapshot = read_run(paths)
    thresholds = _thresholds(snapshot)
    unchecked: list[str] = []
    # Before anything puts figures of its own in their place.
    wrong_figures = list(_significance(paths, snapshot, thresholds, unchecked))
    found = judged(snapshot, thresholds)
    if not (snapshot.state is Status.DONE or snapshot.state.broken):
        unchecked.append(f"the run has not ended ({snapshot.state}): its verdict is not the last word")
    signature = check(paths, keys)
    unchecked += [signature.gap] if signature.gap is not None else []
    problems = [
        *found.problems,
        *wrong_identity(snapshot),
        *_events(paths, snapshot),
        *_scores(paths, snapshot),
        *wrong_figures,
        *_adapters(paths, snapshot, unchecked),
        *_result(paths, found),
        *_contents(snapshot, cache, unchecked),
        *([signature.problem] if signature.problem is not None else []),
        *_data_health(paths, snapshot, cache, unchecked),
        *_reserve(paths, snapshot, cache, unchecked),
        *_positions(paths, unchecked),
        *_exports(paths, found, unchecked),
    ]
    return Verification(found, listed(problems), listed(unchecked), signature)


def _thresholds(snapshot: RunSnapshot) -> Thresholds:
    try:
        return recorded_thresholds(snapshot.config)
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
    """Every score document is what events, run.json and the base model's score say."""
    reported = reported_by(snapshot)
    if not reported.intervals:
        return  # nothing was scored yet, and the state says so
    saved: dict[str, str] = {step_name(one.step): one.hash for one in snapshot.adapters}
    saved |= {one.name: one.hash for one in snapshot.candidates}
    for place in (*reported.score_keys, *reported.candidate_keys):
        if place.step is None and not exists(place.path(paths)):
            continue  # the last stage was not reached; of a finished run the evidence says that it is missing
        score, problem = read_score(place.path(paths))
        if score is None:
            yield problem or ""
            continue
        base = None if place.step == 0 else read_score(place.baseline.path(paths))[0]
        yield from wrong_score(paths, place, score, base, reported)
        name = place.name or step_name(place.step or 0)
        if place.step and score.adapter_hash is not None and score.adapter_hash != saved.get(name):
            yield f"{place.path(paths)}: scored with another adapter than that which was saved of {adapter_words(name)}"


def _significance(
    paths: RunPaths, snapshot: RunSnapshot, thresholds: Thresholds, unchecked: list[str]
) -> Iterator[str]:
    """Texts recounted; what is stored of how sure the error rates are is what they give."""
    reported = reported_by(snapshot)
    if not all(exists(paths.tuned(name)) for name in ("domain", "heldout")):
        unchecked.append("how sure the error rates are: there is no tuned score of both sets")
        return
    computed = fresh(paths, reported, thresholds)
    if computed.problem is not None or computed.significance is None:
        yield computed.problem or ""
        return
    try:
        kept = stored(paths, reported, thresholds)
    except OSError as error:
        yield f"{error.filename}: cannot be read: {error.strerror}"
        return
    if kept is not None and not alike(kept, computed.significance):
        yield f"{paths.evals}: what is stored of how sure the error rates are is not what the score documents give"


def _positions(paths: RunPaths, unchecked: list[str]) -> Iterator[str]:
    """What is kept of the order of the sets is what the score documents give."""
    if not exists(paths.position):
        unchecked.append(f"order of the sets: there is no {paths.position.name}")
    elif positions_differ(paths):
        yield f"{paths.position}: not what the score documents give"


def _exports(paths: RunPaths, found: Judged, unchecked: list[str]) -> Iterator[str]:
    """What was exported is as its runtime heard it, and its figures are those of the transcripts."""
    artifact = found.evidence.artifact
    for name in exports_of(paths):
        export, problem = read_export(paths, name)
        if export is None:
            yield problem or f"{paths.export(name)}: missing: export again, or delete {paths.export(name).parent}"
            continue
        yield from wrong_export(paths, name, export, None if artifact is None else artifact.current_hash)
        yield from wrong_interval(paths, name, export)
        computed = fresh(paths, replace(reported_by(found.snapshot), export=name), found.thresholds)
        if not computed.believed:
            yield computed.problem or f"{paths.export(name)}: its scores cannot be believed"
        changed, gap = changed_export(export)
        yield from changed
        unchecked += [] if gap is None else [gap]


def _adapters(paths: RunPaths, snapshot: RunSnapshot, unchecked: list[str]) -> Iterator[str]:
    """The adapters on disk are those that the trainer told of; the links lead to them."""
    gone = []
    wanted = {step_name(one.step): one.hash for one in snapshot.adapters}
    # a trainer keeps of the candidates only the one that was chosen
    wanted |= {one.name: one.hash for one in snapshot.candidates if one.chosen or paths.adapter(one.name).is_dir()}
    for name, digest in wanted.items():
        folder = paths.adapter(name)
        if not folder.is_dir():
            gone.append(name)
            continue
        try:
            if adapter_hash(folder) != digest:
                yield f"{folder}: changed since it was saved"
            facts = read_facts(folder)
            if facts is None:
                unchecked.append(f"{folder.name}: it has no {ADAPTER_FACTS}, so what it is decoded under is not known")
            elif facts.hash_version == 1:
                what = f"{folder / ADAPTER_FACTS}: saved by an earlier version, whose hash does not cover it"
                unchecked.append(f"{what}; what run.json has of it was compared")
        except (RunFolderError, ModelError) as error:
            yield str(error)
    if gone:
        unchecked.append(
            f"adapters of {', '.join(map(adapter_words, gone))}: not here any more, so their hashes were not computed"
        )
    if exists(paths.best):
        yield from wrong_facts(snapshot, _name(paths, paths.best) or step_name(0))
    for link in (paths.best, paths.last):
        try:
            linked_adapter(paths, link)
        except LinkError as error:
            yield str(error)


def _name(paths: RunPaths, link: Path) -> str | None:
    try:
        return linked_adapter(paths, link)
    except LinkError:
        return None


def _said(name: str | None) -> str:
    return "nothing" if name is None else adapter_words(name)


def _result(paths: RunPaths, found: Judged) -> Iterator[str]:
    """result.json says what the events and the adapter say."""
    snapshot, evidence = found.snapshot, found.evidence
    if snapshot.result is None:
        said = snapshot.final is not None and snapshot.final.outcome == "done"
        if said and not snapshot.state.active and not exists(paths.result):
            yield f"{paths.result}: missing, though the events say that the run is finished"
        return
    try:
        best, kept, _ = best_of(paths, snapshot.intervals, snapshot.candidates, found.thresholds)
    except ValueError as error:
        yield f"which candidate is the best cannot be told: {error}"
        return
    step = None if best is None else adapter_step(best)
    yield from wrong_result(snapshot, evidence.artifact, {"best_step": step, "guardrail_kept": kept})
    for name in sorted({one.name for one in snapshot.candidates} - set(possible_candidates(snapshot))):
        yield f"{paths.events}: {name} is no candidate of a run with these settings and intervals"
    for step in evidence.missing_intervals:
        yield f"{paths.events}: the interval of step {step} is missing"
    if _name(paths, paths.best) != best:
        yield f"{paths.best}: leads to {_said(_name(paths, paths.best))}, the best candidate is {_said(best)}"


def _data_health(paths: RunPaths, snapshot: RunSnapshot, cache: HashCache, unchecked: list[str]) -> Iterator[str]:
    """The audit is that of the run's sets: made again where they are all here, whichever method made it."""
    document, _ = read_json(paths.data_health)
    if document is None:
        if not exists(paths.data_health):
            unchecked.append(f"audit of the data: there is no {paths.data_health.name}")
        return
    from core.audit.health import METHOD_VERSION, health_document, health_key

    hashes = audited_hashes(snapshot.config)
    data = _data(snapshot)
    paths_of = {} if data is None else set_paths(data)
    missing = sorted(name for name in hashes if name not in paths_of or not Path(paths_of[name]).is_file())
    if missing or not hashes or data is None:
        which = f"{', '.join(missing)} not on this machine" if missing else "run.json does not say of which sets"
        unchecked.append(f"audit of the data: taken as recorded ({which})")
        return
    try:
        manifests = {name: read_set(data, name) for name in hashes}
        key = health_key(manifests, hashes, data.target_rms, cache, lambda done, total: None)
        made = health_document(manifests, hashes, data.target_rms, key)
    except (UserError, OSError) as error:
        unchecked.append(f"audit of the data: cannot be made here: {str(error).splitlines()[0]}")
        return
    if document.get("method") == METHOD_VERSION:
        if made != document:
            yield f"{paths.data_health}: not what the audit of the run's sets gives"
        return
    recorded, now = (believed(one, hashes) for one in (document, made))
    if isinstance(recorded, str) or isinstance(now, str):
        return  # the evidence says what is wrong with the one that is recorded
    unchecked.append(
        f"audit of the data: made by method {document.get('method')}, this is {METHOD_VERSION}: made anew, and only "
        "sizes and leakage were compared"
    )
    if [(one.name, one.clips) for one in recorded.sets] != [(one.name, one.clips) for one in now.sets]:
        yield f"{paths.data_health}: its sets are not those that an audit of the run's sets finds"
    if now.leaks and not recorded.leaks:
        yield f"{paths.data_health}: says that nothing leaks; made anew: {leak_sentence(now.leaks)}"
    if now.too_many_copies and not recorded.too_many_copies:
        yield f"{paths.data_health}: says nothing of this; made anew: {copies_sentence(now, now.too_many_copies)}"


def _contents(snapshot: RunSnapshot, cache: HashCache, unchecked: list[str]) -> Iterator[str]:
    """Model and manifests, audio and all, are what they were, as far as they are here."""
    data, model = _data(snapshot), snapshot.settings.get("model")
    paths: dict[str, Any] = {"model": model.get("id") if isinstance(model, dict) else None}
    paths |= {} if data is None else set_paths(data)
    recorded_lines = dict(reported_by(snapshot).lines)
    if not recorded_hashes(snapshot):
        unchecked.append("model and manifests: run.json records no hashes of them")
    # languages of clips are among the fields of the lines
    hashes = {name: digest for name, digest in recorded_hashes(snapshot).items() if name != LANGUAGES}
    for name, digest in sorted(hashes.items()):
        written = paths.get(name)
        path = Path(str(written))
        if written is None or not exists(path):
            unchecked.append(f"{name}: not on this machine ({written}), so its hash was taken as recorded")
            continue
        try:
            if name == "model":
                now, same_lines = model_hash(path, cache), True
            elif data is not None and is_parted(data, name):
                part = read_set(data, name)
                now = manifest_sha256(part, cache)
                lines = lines_sha256(lines_of(part))
                same_lines = lines == recorded_lines.get(name, lines)
            else:
                found = manifest_file_hashes(path, cache)
                now, same_lines = found.content, found.lines == recorded_lines.get(name, found.lines)
            if now != digest:
                yield f"{path}: the content of {name} is not that which the run was made with"
            elif not same_lines:
                yield f"{path}: speakers or fields of {name} are not those that the run was made with"
        except UserError as error:
            first, *more = str(error).splitlines()
            extra = f" (and {len(more)} more problems)" if more else ""
            lines_now = None if name == "model" else _lines_without_audio(data, name)
            if lines_now is None or name not in recorded_lines:
                unchecked.append(f"{name}: cannot be hashed here: {first}{extra}")
            elif lines_now != recorded_lines[name]:
                yield f"{path}: the lines of {name} are not those that the run was made with"
            else:
                unchecked.append(f"{name}: only its lines were compared, it cannot be hashed here: {first}{extra}")


def _reserve(paths: RunPaths, snapshot: RunSnapshot, cache: HashCache, unchecked: list[str]) -> Iterator[str]:
    """The part of the reserve that the run drew is that of its manifests, as far as they are here."""
    data, hashes = _data(snapshot), recorded_hashes(snapshot)
    if data is None or data.reserve_domain is None or not exists(paths.reserve_drawn):
        return
    try:
        yield from wrong_draw(paths, data, {name: str(digest) for name, digest in hashes.items()}, cache)
    except (UserError, OSError, KeyError) as error:
        first = (str(error).splitlines() or ["not on this machine"])[0]
        unchecked.append(f"reserve: which part was drawn was taken as recorded ({first})")


def _data(snapshot: RunSnapshot) -> DataSettings | None:
    """Where the run's sets are, by its run.json; None where that is not whole."""
    try:
        return settings_from(snapshot.settings).data
    except (KeyError, TypeError, ValueError):
        return None


def _lines_without_audio(data: DataSettings | None, name: str) -> str | None:
    try:
        return None if data is None else lines_sha256(lines_of(read_set(data, name, check_audio=False)))
    except (ManifestError, OSError):
        return None
