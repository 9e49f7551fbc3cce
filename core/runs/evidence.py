"""Evidence for the verdict, gathered from a run folder. What cannot be had is None; `problems` says why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from core.errors import RunFolderError
from core.plan.exports import target_of
from core.plan.rows import interval_steps, too_many_intervals
from core.runs.adapter_files import CONFIG, WEIGHTS, adapter_hash
from core.runs.choice import best_of, chooses_apart
from core.runs.consistency import (
    Reported,
    ScoreKey,
    contradictions,
    intervals_by,
    missing_files,
    reported_by,
    total_of,
    unproven,
    wrong_choice,
    wrong_score,
)
from core.runs.data_health import read_health
from core.runs.exports import read_export, wrong_export
from core.runs.folder import linked_adapter
from core.runs.paths import ADAPTER_FACTS, RunPaths, adapter_step, step_name
from core.runs.reserve import reserve_of
from core.runs.scores import Score, read_score
from core.runs.significance import assess_run
from core.runs.signing import check, keys_from, unsigned
from core.runs.snapshot import RunSnapshot
from core.runs.status import Status
from core.sanitise import quoted
from core.scoring.evidence import (
    Artifact,
    CandidateScore,
    Capped,
    Choice,
    Evidence,
    Parity,
    Reserve,
    Served,
    Thresholds,
    capped,
)
from core.scoring.units import ErrorCounts, Unit
from core.scoring.verdict import thresholds_of
from core.system.files import exists, stamp

MOST_PROBLEMS = 500
_SETS = ("domain", "heldout")
_FAILURES = {
    Status.DIVERGED: "The run diverged",
    Status.STOPPED_EARLY: "The run was stopped early (gate.early_stop)",
    Status.OUT_OF_MEMORY: "The run ran out of memory",
    Status.FAILED: "The run failed",
}


_BROKE_DOWN = (Status.FAILED, Status.OUT_OF_MEMORY)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The evidence, and one sentence for each file that should have been part of it and could not be."""

    evidence: Evidence
    problems: tuple[str, ...]


@dataclass(slots=True)
class _Reader:
    paths: RunPaths
    problems: list[str] = field(default_factory=list)

    def score(self, path: Path) -> Score | None:
        score, problem = read_score(path)
        if problem is not None:
            self.problems.append(problem)
        return score


def gather(
    snapshot: RunSnapshot, paths: RunPaths, gave_up: str | None = None, thresholds: Thresholds | None = None
) -> Gathered:
    """The evidence of a run, whole or partial. Never raises for what is, or is not, in the files.

    `gave_up`: why the queue does not go on with a run (crashed too often). It rejects. With `thresholds` the evidence
    says how sure the WER differences are: computed once, and stored in the run folder.
    """
    reader = _Reader(paths, list(snapshot.problems))
    reported = reported_by(snapshot)
    unit = snapshot.unit if thresholds is None else thresholds.unit
    intervals, uncounted = snapshot.intervals, None
    if unit is not snapshot.unit:
        intervals, uncounted = intervals_by(paths, reported, unit)
    baseline = next((i for i in intervals if i.step == 0), None)
    base = {"domain": baseline.domain.counts, "heldout": baseline.heldout.counts} if baseline else {}
    # Before the last stage there is nothing to read, and nothing wrong with that.
    wanted = any(exists(paths.tuned(name)) for name in _SETS) or snapshot.state is Status.DONE
    tuned = {name: reader.score(paths.tuned(name)) if wanted else None for name in _SETS}
    comparable = {name: _comparable(reader, ScoreKey(name, None), tuned[name], reported) for name in _SETS}
    significance, disbelief = None, None
    if thresholds is not None and all(score is not None for score in comparable.values()):
        found = assess_run(paths, reported, thresholds)
        significance = found.significance
        reader.problems += [found.problem] if found.problem is not None else []
        if not found.believed:
            comparable, disbelief = dict.fromkeys(_SETS), found.problem
    choice, unsure = _choice(reader, snapshot)
    signature_problem = _signature_problem(reader, snapshot)
    artifact = _artifact(reader, tuned)
    contradicting = (*contradictions(snapshot, artifact), *wrong_choice(snapshot, artifact, choice))
    chosen = _chosen(snapshot, artifact)
    gaps = (*unproven(snapshot), *unsure, *_unborne(reader, reported, chosen))
    reader.problems += [*contradicting, *gaps, *missing_files(snapshot)]
    comparable = dict.fromkeys(_SETS) if gaps else comparable
    parity = _parity(reader, tuned, artifact)
    counts: dict[str, ErrorCounts | None] = dict.fromkeys(_SETS)
    try:
        counts = {
            name: None if score is None or uncounted else _counts(reader, name, score, unit)
            for name, score in comparable.items()
        }
    except ValueError as error:
        uncounted = str(error)
    if uncounted is not None:
        uncounted = f"the run was scored in {snapshot.unit.plural}, the gate counts {unit.plural}: {uncounted}"
        reader.problems.append(uncounted)
    data_health, unreadable = read_health(paths, snapshot.config)
    if unreadable is not None:
        reader.problems.append(unreadable)
    return Gathered(
        Evidence(
            steps_planned=snapshot.steps_planned,
            steps_completed=snapshot.steps_completed,
            intervals=intervals,
            baseline_domain=base.get("domain"),
            baseline_heldout=base.get("heldout"),
            tuned_domain=counts["domain"],
            tuned_heldout=counts["heldout"],
            artifact=artifact,
            parity=parity,
            significance=significance,
            missing_intervals=_missing_intervals(snapshot),
            failure=_failure(snapshot, gave_up),
            broke_down=snapshot.state in _BROKE_DOWN or (gave_up is not None and not snapshot.state.broken),
            contradiction=contradicting[0] if contradicting else None,
            unproven=next(iter(gaps), disbelief),
            signature_problem=signature_problem,
            data_health=data_health,
            choice=choice,
            chosen=chosen,
            caps=tuple(_caps(reader, tuned)),
            served=None if thresholds is None else _served(reader, thresholds, reported, artifact.current_hash),
            reserve=None if thresholds is None else _reserve(reader, snapshot, artifact.current_hash, thresholds),
            uncounted=None if uncounted is None else uncounted[:1].upper() + uncounted[1:],
        ),
        listed(reader.problems),
    )


def listed(problems: Iterable[str]) -> tuple[str, ...]:
    """Each problem once, and no more than a person reads: a forged file may name a hundred thousand others."""
    found = list(dict.fromkeys(problems))
    more = len(found) - MOST_PROBLEMS
    return (*found[:MOST_PROBLEMS], *([f"{more} more problems of this run are not listed"] if more > 0 else ()))


def _choice(reader: _Reader, snapshot: RunSnapshot) -> tuple[Choice | None, tuple[str, ...]]:
    """(how the run's candidate was chosen, by the thresholds that it was made with; why that cannot be told)."""
    if not chooses_apart(snapshot.intervals):
        return None, ()
    try:
        thresholds = thresholds_of((snapshot.config or {}).get("gate") or {})
        return best_of(reader.paths, snapshot.intervals, snapshot.candidates, thresholds)[2], ()
    except (ValueError, TypeError) as error:
        return None, (f"which candidate was chosen cannot be told: {error}",) if snapshot.state is Status.DONE else ()


def _served(reader: _Reader, thresholds: Thresholds, reported: Reported, adapter: str | None) -> Served | None:
    """What the runtime made of the sets that the gate asks for. Its transcripts are counted anew, as the tuned are."""
    target = None if thresholds.runtime is None else target_of(thresholds.runtime)
    if target is None:
        return None
    paths, name = reader.paths, target.name
    found, problem = read_export(paths, name)
    if found is None:
        return Served(str(target), problem=None if problem is None else _sentence(problem))
    wrong = next(wrong_export(paths, name, found, adapter), None) or unsigned(paths, paths.export(name))
    told = replace(reported, export=name)
    assessed = None if wrong is not None else assess_run(paths, told, thresholds)
    if assessed is not None and not assessed.believed:
        wrong = assessed.problem or f"{paths.export(name)}: its scores cannot be believed"
    scores = {dataset: read_score(paths.served(name, dataset))[0] for dataset in _SETS}
    counts: dict[str, ErrorCounts] = {}
    try:
        for dataset, score in scores.items():
            if score is not None:
                unit = thresholds.unit
                own = score.unit is unit
                counts[dataset] = score.counts.plain if own else total_of(paths.served(name, dataset), unit)
    except ValueError as error:
        wrong = wrong or str(error)
    if wrong is not None:
        reader.problems.append(wrong)
        return Served(str(target), problem=_sentence(wrong))
    heard = found.runtime
    return Served(
        str(target),
        f"{heard.name} {quoted(heard.version)} on {quoted(heard.device)} in {quoted(heard.precision)}".replace("'", ""),
        counts.get("domain"),
        counts.get("heldout"),
        None if assessed is None else assessed.significance,
        sum(found.sets[dataset].utterances for dataset in _SETS),
        sum(found.sets[dataset].changed for dataset in _SETS),
        tuple(
            capped(dataset, "tuned", score.capped_texts, len(score.utterances))
            for dataset, score in scores.items()
            if score is not None
        ),
    )


def _reserve(reader: _Reader, snapshot: RunSnapshot, adapter: str | None, thresholds: Thresholds) -> Reserve | None:
    data, hashes = snapshot.settings.get("data"), (snapshot.config or {}).get("hashes")
    data, hashes = (value if isinstance(value, dict) else {} for value in (data, hashes))
    found = reserve_of(reader.paths, data, hashes, adapter, thresholds)
    if found is not None and found.problem is not None and exists(reader.paths.reserve_drawn):
        reader.problems.append(found.problem)
    return found


def _sentence(problem: str) -> str:
    return f"{problem.removesuffix('.')}."


def _chosen(snapshot: RunSnapshot, artifact: Artifact) -> CandidateScore | None:
    """What the events say of the candidate that the link leads to, where that is made of intervals."""
    if artifact.best_step is None or artifact.best_name == step_name(artifact.best_step):
        return None
    return next((one for one in snapshot.candidates if one.name == artifact.best_name), None)


def _unborne(reader: _Reader, reported: Reported, chosen: CandidateScore | None) -> Iterator[str]:
    """What the trainer's own scores of the chosen candidate say otherwise than its event, or than run.json."""
    for place in reported.candidate_keys if chosen is not None else ():
        if chosen is None or place.name != chosen.name:
            continue
        score, base = (reader.score(one.path(reader.paths)) for one in (place, place.baseline))
        if score is not None and base is not None:
            yield from wrong_score(reader.paths, place, score, base, reported)
            if score.adapter_hash != chosen.hash:
                yield f"{place.path(reader.paths)}: scored with another adapter than that of {chosen.name}"


def _caps(reader: _Reader, tuned: Mapping[str, Score | None]) -> Iterator[Capped]:
    """How many transcripts of base model and adapter reached their token cap."""
    for name, score in tuned.items():
        if score is not None:
            for word, one in (("base", reader.score(reader.paths.evaluation(0, name))), ("tuned", score)):
                if one is not None:
                    yield capped(name, word, one.capped_texts, len(one.utterances))


def _failure(snapshot: RunSnapshot, gave_up: str | None) -> str | None:
    sentence = _FAILURES.get(snapshot.state)
    if sentence is None:
        return gave_up
    message = snapshot.final.message if snapshot.final is not None else ""
    return f"{sentence}: {message}" if message else f"{sentence}."


def _signature_problem(reader: _Reader, snapshot: RunSnapshot) -> str | None:
    """What is wrong with the signature of a run that is done, where the environment has a key to check it with."""
    if snapshot.state is not Status.DONE:
        return None
    try:
        keys = keys_from(os.environ)
    except RunFolderError as error:
        return str(error)
    problem = check(reader.paths, keys).problem if keys.can_check else None
    if problem is not None:
        reader.problems.append(problem)
    return problem


def planned_intervals(snapshot: RunSnapshot) -> tuple[int, ...]:
    """The steps at which the run is evaluated after step 0, by its run.json; none where that does not say."""
    train = snapshot.settings.get("train")
    every = train.get("eval_every") if isinstance(train, dict) else None
    steps = snapshot.steps_planned
    if not isinstance(every, int) or every < 1 or steps < 1 or too_many_intervals(steps, every):
        return ()
    return interval_steps(steps, every)


def _missing_intervals(snapshot: RunSnapshot) -> tuple[int, ...]:
    """Planned intervals before the newest (all of them, once the run is done) that are not there."""
    there = {interval.step for interval in snapshot.intervals}
    last = snapshot.steps_planned if snapshot.state is Status.DONE else max(there, default=0)
    return tuple(step for step in planned_intervals(snapshot) if step <= last and step not in there)


def _counts(reader: _Reader, name: str, score: Score, unit: Unit) -> ErrorCounts:
    """By `unit`. ValueError where they cannot be counted again."""
    return score.counts.plain if score.unit is unit else total_of(reader.paths.tuned(name), unit)


def _comparable(reader: _Reader, place: ScoreKey, tuned: Score | None, reported: Reported) -> Score | None:
    """`tuned`, unless it or the baseline is not what events, run.json and the other say: then it is no evidence."""
    if tuned is None:
        return None
    base = reader.score(place.baseline.path(reader.paths))
    if base is None:
        return None
    wrong = [
        *wrong_score(reader.paths, place.baseline, base, None, reported),
        *wrong_score(reader.paths, place, tuned, base, reported),
    ]
    reader.problems += wrong
    return None if wrong else tuned


def _artifact(reader: _Reader, tuned: dict[str, Score | None]) -> Artifact:
    best = reader.paths.best
    scores = [score for score in tuned.values() if score is not None]
    name = current = None
    try:
        name = linked_adapter(reader.paths, best)
        current = _hash(best, _adapter_stamp(best))
    except FileNotFoundError:
        if scores:
            reader.problems.append(f"{best}: missing or not whole, though it was scored")
    except RunFolderError as error:
        reader.problems.append(str(error))
    except OSError as error:
        reader.problems.append(f"{best}: cannot be read: {error.strerror}")
    best_step = None if name is None else adapter_step(name)
    hashes = [score.adapter_hash for score in scores]
    steps = [score.step for score in scores]
    # Should the two sets have been scored with different adapters, the one that is not on disk is reported.
    return Artifact(
        scored_step=next((step for step in steps if step != best_step), steps[0] if steps else None),
        scored_hash=next((h for h in hashes if h != current), hashes[0] if hashes else None),
        current_hash=current,
        best_step=best_step,
        best_name=name,
    )


def _adapter_stamp(folder: Path) -> tuple[int, ...]:
    facts = folder / ADAPTER_FACTS
    more = stamp(facts.stat()) if exists(facts) else ()
    return stamp((folder / WEIGHTS).stat()) + stamp((folder / CONFIG).stat()) + more


@lru_cache(maxsize=64)
def _hash(folder: Path, _stamp: tuple[int, ...]) -> str:
    return adapter_hash(folder)


def _parity(reader: _Reader, tuned: dict[str, Score | None], artifact: Artifact) -> Parity | None:
    """The tuned score beside the trainer's own documents of the interval, or candidate, that it is of."""
    if all(score is None for score in tuned.values()):
        return None
    own: dict[str, Score | None] = dict.fromkeys(_SETS)
    scored: int | str | None = artifact.scored_step
    if artifact.best_name is not None and artifact.scored_step == artifact.best_step:
        scored = artifact.best_name
    if scored is not None:
        own = {name: reader.score(reader.paths.evaluation(scored, name)) for name in _SETS}
    pairs = [(a, b) for name in _SETS if (a := own[name]) is not None and (b := tuned[name]) is not None]
    singles = [score.single for score in tuned.values() if score is not None and score.single is not None]
    return Parity(
        same_device=all(_device(a) == _device(b) for a, b in pairs),
        domain_transcripts_differing=_differing(reader, "domain", own, tuned),
        heldout_transcripts_differing=_differing(reader, "heldout", own, tuned),
        single_transcripts_compared=sum(one.compared for one in singles),
        single_transcripts_differing=sum(one.differing for one in singles) if singles else None,
        trainer_fingerprint=_fingerprint(own),
        evaluator_fingerprint=_fingerprint(tuned),
        clips_available=sum(len(score.utterances) for score in tuned.values() if score is not None),
    )


def _device(score: Score) -> tuple[str | None, str | None]:
    """Device type and precision; `cuda:1` is a `cuda`."""
    return score.device.partition(":")[0] or None, score.precision


def _differing(reader: _Reader, name: str, own: dict[str, Score | None], tuned: dict[str, Score | None]) -> int | None:
    mine, theirs = own[name], tuned[name]
    if mine is None or theirs is None:
        return None
    differing = mine.differing_clip(theirs)
    if differing is not None:
        reader.problems.append(f"{reader.paths.tuned(name)}: not the utterances that the trainer scored: {differing}")
        return None
    pairs = zip(mine.utterances, theirs.utterances, strict=True)
    return sum(one.hypothesis != other.hypothesis for one, other in pairs)


def _fingerprint(scores: dict[str, Score | None]) -> str | None:
    """The one fingerprint of all sets; sets that differ among themselves give one that equals no other."""
    found = {score.fingerprint if score is not None else None for score in scores.values()}
    return None if None in found else " / ".join(sorted(str(item) for item in found))
