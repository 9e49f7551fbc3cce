"""Whether the files of a run agree with each other. The gate checks it too, since it takes next to no time.

What events, run.json and the data audit say of score documents, and what the small files say of each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from core.errors import ModelError, RunFolderError
from core.plan.candidates import Candidate, further_candidates
from core.plan.identity import run_identity, settings_from
from core.plan.schema import threads_of_each
from core.runs.adapter_files import covers_facts, read_facts
from core.runs.contents import HUB, MODEL
from core.runs.data_health import made_here, read_health
from core.runs.folder import inventory, links, sha256_of, sha256_of_start
from core.runs.model_files import hub_hash
from core.runs.paths import ADAPTER_FACTS, RunPaths, adapter_name, adapter_step, adapter_words, step_name
from core.runs.scores import Score, read_score
from core.runs.snapshot import RunSnapshot
from core.sanitise import quoted
from core.scoring.alignment import count_errors
from core.scoring.data_health import TAKEN_FROM, Together
from core.scoring.evidence import Artifact, CandidateScore, Choice, Interval, SetScore
from core.scoring.text import normaliser
from core.scoring.units import ErrorCounts, Unit, total
from core.system.files import exists, stamp

# What events, run.json and the data audit say of a run's score documents, and whether the documents say the same

Hashes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ScoreKey:
    """Where a score document lies. `step` None: the tuned score, or what the runtime of an export made of the set."""

    dataset: str
    step: int | None
    export: str = ""
    name: str | None = None
    """Of a candidate made of intervals; its step is that of the newest of them."""

    def path(self, paths: RunPaths) -> Path:
        """The document's file."""
        if self.export:
            return paths.served(self.export, self.dataset)
        if self.step is None:
            return paths.tuned(self.dataset)
        return paths.evaluation(self.step if self.name is None else self.name, self.dataset)

    @property
    def baseline(self) -> ScoreKey:
        """The base model's score on the same set."""
        return ScoreKey(self.dataset, 0)


@dataclass(frozen=True, slots=True)
class Reported:
    """What is said of the score documents elsewhere."""

    intervals: tuple[Interval, ...]
    """By the events, interval 0 among them."""
    hashes: Hashes
    """Of each manifest, by run.json: texts and audio."""
    lines: Hashes
    """Of each manifest, by run.json: what else is used of it (core.manifests.hashing)."""
    together: tuple[Together, ...] = ()
    """Utterances that are of one recording, by the audit of the data."""
    unit: Unit = Unit.WORD
    """What the run's errors were counted by."""
    export: str = ""
    """Whose runtime's scores stand for the tuned ones; none: they stand for themselves."""
    candidates: tuple[CandidateScore, ...] = ()
    """Made of intervals, by the events."""

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets that are scored at every interval."""
        choosing = [name for name in TAKEN_FROM if any(getattr(one, name) is not None for one in self.intervals)]
        return ("domain", "heldout", *choosing)

    @property
    def score_keys(self) -> list[ScoreKey]:
        """Of all documents; a set's baseline before the others."""
        tuned = [self.tuned("domain"), self.tuned("heldout")]
        return [*(place for name in self.sets for place in self.intervals_of(name)), *tuned]

    def tuned(self, dataset: str) -> ScoreKey:
        """Of the document that is judged."""
        return ScoreKey(dataset, None, self.export)

    @property
    def candidate_keys(self) -> list[ScoreKey]:
        """Of all documents of candidates made of intervals."""
        sets = (*TAKEN_FROM, "domain", "heldout")
        return [
            ScoreKey(dataset, one.step, name=one.name)
            for one in self.candidates
            for dataset in sets
            if getattr(one, dataset) is not None
        ]

    def intervals_of(self, dataset: str) -> list[ScoreKey]:
        """Of a set's document at each interval; at interval 0 whether or not the events have it."""
        return [ScoreKey(dataset, step) for step in sorted({0, *(interval.step for interval in self.intervals)})]

    def set_score(self, place: ScoreKey) -> SetScore | None:
        """What the event of the interval, or candidate, says of the set."""
        interval = next((one for one in self.intervals if one.step == place.step), None)
        candidate = next((one for one in self.candidates if one.name == place.name), None)
        found: SetScore | None = getattr(interval if place.name is None else candidate, place.dataset, None)
        return found


def reported_by(snapshot: RunSnapshot) -> Reported:
    """What events, run.json and the audit of the data say of the run's scores."""
    config = snapshot.config or {}
    health, _ = read_health(snapshot.paths, config)
    together = () if health is None else health.together
    hashes, lines = _hashes(config.get("hashes")), _hashes(config.get("lines"))
    return Reported(snapshot.intervals, hashes, lines, together, snapshot.unit, candidates=snapshot.candidates)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Unit) else value


def _hashes(value: object) -> Hashes:
    return tuple(sorted((str(name), str(digest)) for name, digest in value.items())) if isinstance(value, dict) else ()


def wrong_score(
    paths: RunPaths, place: ScoreKey, score: Score, base: Score | None, reported: Reported
) -> Iterator[str]:
    """One sentence for each thing in a score document that events, run.json or the base model's score do not say.

    `base` None: it is the base model's score itself, which must be of the lines that run.json records.
    """
    path = place.path(paths)
    wanted: dict[str, Any] = {"dataset": place.dataset, "unit": reported.unit}
    hashes = dict(reported.hashes)
    if place.dataset in hashes:
        wanted["manifest_sha256"] = hashes[place.dataset]
    if place.step is not None:
        wanted["step"] = place.step
    reported_score = reported.set_score(place)
    if reported_score is not None:
        wanted["loss"] = reported_score.loss
    for key, value in wanted.items():
        if getattr(score, key) != value:
            yield f"{path}: its {key} is {quoted(_plain(getattr(score, key)))}, the run's is {quoted(_plain(value))}"
    if reported_score is not None and score.counts.plain != reported_score.counts:
        what = f"the interval event of step {place.step}" if place.name is None else f"the event of {place.name}"
        yield f"{path}: its counts are not those of {what}"
    if base is None:
        lines = dict(reported.lines)
        if place.dataset in lines and score.lines_sha256 != lines[place.dataset]:
            yield f"{path}: its texts, slices, speakers or fields are not those that run.json records of the manifest"
        return
    for key, value in score.conditions.items():
        if base.conditions[key] != value:
            yield f"{path}: does not compare with the baseline, which has another {key}"
            return
    differing = base.differing_clip(score)
    if differing is not None:
        yield f"{path}: not the clips of the base model's score: {differing}"


# Errors counted again from the texts of score documents, where a gate counts by another unit than the run's
#
# Transcripts do not depend on the unit, so nothing is decoded. What was chosen by the run's own unit, its best
# interval, stays as it is: that adapter is the one that is judged.


def counted_by(score: Score, unit: Unit) -> Mapping[str, ErrorCounts]:
    """The errors of each utterance by `unit`, by its id. ValueError where this version cannot normalise its texts."""
    if score.unit is unit:
        return {utterance.id: utterance.counts for utterance in score.utterances}

    text = normaliser(score.normaliser.name)
    if text.version != score.normaliser.version:
        raise ValueError(
            f"scored with version {score.normaliser.version} of the normaliser {text.name}, this is {text.version}"
        )
    apply = cache(text.apply)
    return {u.id: count_errors(apply(u.reference), apply(u.hypothesis), unit) for u in score.utterances}


def total_of(path: Path, unit: Unit) -> ErrorCounts:
    """The errors in a score document by `unit`. ValueError, with the reason, where they cannot be counted."""
    try:
        return _total(path, unit, stamp(path.lstat()))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4096)
def _total(path: Path, unit: Unit, _stamp: tuple[int, ...]) -> ErrorCounts:
    # A dashboard asks again every second; the stamp makes the answer cacheable.
    score, problem = read_score(path)
    if score is None:
        raise ValueError(problem)
    try:
        return total(counted_by(score, unit).values())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def intervals_by(paths: RunPaths, reported: Reported, unit: Unit) -> tuple[tuple[Interval, ...], str | None]:
    """(the intervals with errors counted by `unit`, None); or with no counts at all, and why they cannot be had."""

    def again(interval: Interval, *, known: bool) -> Interval:
        sets = {
            name: replace(
                score,
                counts=total_of(ScoreKey(name, interval.step).path(paths), unit) if known else ErrorCounts(),
            )
            for name in reported.sets
            if (score := getattr(interval, name)) is not None
        }
        return replace(interval, **sets)

    try:
        return tuple(again(interval, known=True) for interval in reported.intervals), None
    except ValueError as error:
        return tuple(again(interval, known=False) for interval in reported.intervals), str(error)


# What the small files of a run say of each other


def contradictions(snapshot: RunSnapshot, artifact: Artifact) -> tuple[str, ...]:
    """One sentence for each thing in a run's files that the run's other files do not bear out."""
    found = [*wrong_lines(snapshot), *wrong_sets(snapshot)]
    if artifact.current_hash is None or artifact.best_step is None or artifact.best_name is None:
        return tuple(found)  # A missing adapter is no contradiction, and passes nowhere.
    step, best = artifact.best_step, artifact.best_name
    candidate = None if best == step_name(step) else best
    found += wrong_result(snapshot, artifact, {"best_step": step, "candidate": candidate})
    found += wrong_facts(snapshot, artifact.best_name)
    found += wrong_candidate(snapshot, artifact.best_name)
    saved = next((one.hash for one in snapshot.adapters if one.step == artifact.best_step), artifact.current_hash)
    if artifact.best_name != step_name(artifact.best_step):
        saved = next((one.hash for one in snapshot.candidates if one.name == artifact.best_name), saved)
    if saved != artifact.current_hash:
        found.append(f"{snapshot.paths.best}: changed since it was saved")
    if "model" in recorded_hashes(snapshot):
        found += wrong_identity(snapshot)
    return tuple(found)


def unproven(snapshot: RunSnapshot) -> tuple[str, ...]:
    """Why the scores of a finished run cannot be believed, one sentence each: files that changed since it ended, or
    that an earlier version wrote."""
    paths, result = snapshot.paths, snapshot.result
    if result is None:
        return ()
    found = [
        f"{paths.root / link}: a link, which is not followed: put what it leads to in its place"
        for link in links(paths.root, paths.evals.name, paths.adapters.name)
    ]
    found += changed_files(snapshot)
    if not isinstance(result.get("files"), dict):
        found.append(f"{paths.result}: does not say what the run's files were, as runs of earlier versions do not")
    recorded = snapshot.config or {}
    if "model" in recorded_hashes(snapshot) and not isinstance(recorded.get("lines"), dict):
        found.append(f"{paths.config}: does not say what speakers and fields were, as runs of earlier versions do not")
    with contextlib.suppress(RunFolderError):
        if exists(paths.best) and not covers_facts(paths.best):
            what = "not there, or not covered by the adapter's hash, as in runs of earlier versions"
            found.append(f"{paths.best / ADAPTER_FACTS}: {what}")
    return tuple(found)


def changed_files(snapshot: RunSnapshot) -> Iterator[str]:
    """The files that result.json lists are as they were, and so is result.json, by the final event."""
    paths, result, final = snapshot.paths, snapshot.result, snapshot.final
    listed = (result or {}).get("files")
    if not isinstance(listed, dict):
        return
    try:
        if final is not None and final.outcome == "done" and final.result != sha256_of(paths.result):
            yield f"{paths.result}: changed since the run ended"
        if not _are_the_beginning(paths.events, (result or {}).get("events")):
            yield f"{paths.events}: changed since the run ended"
        now = inventory(paths)
    except OSError as error:
        yield f"{error.filename}: cannot be read: {error.strerror}"
        return
    # Both can be made afterwards, by `lora-cli manifest check --run`; without the audit the criteria say so.
    later = {file.relative_to(paths.root).as_posix() for file in (paths.position, paths.data_health)}
    audit = paths.data_health.relative_to(paths.root).as_posix()
    for name, digest in sorted(now.items()):
        if digest != listed.get(name) and (name in listed or name not in later):
            if name == audit and made_here(paths):
                continue  # lost, and made again from the data
            yield f"{paths.root / name}: changed since the run ended"


def missing_files(snapshot: RunSnapshot) -> Iterator[str]:
    """Files that result.json lists and that are gone. A verdict that needs one says so itself."""
    paths, listed = snapshot.paths, (snapshot.result or {}).get("files")
    for name in sorted(listed) if isinstance(listed, dict) else ():
        file = paths.root / name
        if file != paths.data_health and not exists(file):
            yield f"{file}: missing, though it was there when the run ended"


def _are_the_beginning(events: Path, written: object) -> bool:
    """Whether the events are still those that result.json was written after, and maybe more."""
    size = written.get("bytes") if isinstance(written, dict) else None
    return isinstance(written, dict) and type(size) is int and sha256_of_start(events, size) == written.get("sha256")


def wrong_lines(snapshot: RunSnapshot) -> Iterator[str]:
    """The hashes over speakers and fields, which no identity covers, are still those that the run ended with."""
    result, written = snapshot.result or {}, (snapshot.config or {}).get("lines")
    if "lines" in result and result["lines"] != written:
        yield f"{snapshot.paths.config}: its lines are not those that {snapshot.paths.result.name} has"


def wrong_sets(snapshot: RunSnapshot) -> Iterator[str]:
    """Each interval was scored on the selection sets of the run's manifests: on them rests what was chosen on what."""
    hashes = recorded_hashes(snapshot)
    if "domain" not in hashes:
        return
    for interval in snapshot.intervals:
        for name in TAKEN_FROM:
            there = getattr(interval, name) is not None
            if there is not (name in hashes):
                what = "scored on" if there else "not scored on"
                of = "run.json has no such manifest" if there else "run.json has that manifest"
                yield f"{snapshot.paths.events}: the interval of step {interval.step} is {what} {name}, and {of}"
                return


def wrong_choice(snapshot: RunSnapshot, artifact: Artifact, choice: Choice | None) -> Iterator[str]:
    """Of a run that is done, the adapter that is judged is the one that its selection sets give.

    Else it was chosen on what it is judged on, and its scores flatter it by nobody knows how much.
    """
    if choice is None or snapshot.result is None or artifact.best_name is None or choice.name is None:
        return
    if choice.name != artifact.best_name:
        given, there = adapter_words(choice.name), adapter_words(artifact.best_name)
        yield f"{snapshot.paths.best}: leads to {there}, the selection sets give {given}"


def wrong_candidate(snapshot: RunSnapshot, best: str) -> Iterator[str]:
    """What is wrong with the candidate that the link leads to, where that is made of intervals."""
    link, step = snapshot.paths.best, adapter_step(best)
    if step is None or best == step_name(step):
        return
    told = next((one for one in snapshot.candidates if one.name == best), None)
    base = next((one for one in snapshot.intervals if one.step == 0), None)
    if base is None or base.selection is None or base.selection_heldout is None:
        yield f"{link}: leads to {best}, and the run has no selection sets on which it could have been chosen"
    if told is None or not told.chosen:
        yield f"{link}: leads to {best}, and no event says that it was {'scored' if told is None else 'chosen'}"
    elif best not in possible_candidates(snapshot):
        yield f"{link}: leads to {best}, which is no candidate of a run with these settings and intervals"


def possible_candidates(snapshot: RunSnapshot) -> dict[str, Candidate]:
    """By name, those made of intervals that the run's settings ask for."""
    return _made_of(snapshot, [interval.step for interval in snapshot.intervals if interval.step > 0])


def candidates_to_come(snapshot: RunSnapshot, planned: Sequence[int]) -> int:
    """How many candidates the run is still to make of its intervals, `planned` at these steps."""
    return len(_made_of(snapshot, planned).keys() - {one.name for one in snapshot.candidates})


def _made_of(snapshot: RunSnapshot, steps: Sequence[int]) -> dict[str, Candidate]:
    train = _section(snapshot, "train")
    made = further_candidates(
        steps, train.get("interpolate") or (), train.get("average") or 0, train.get("interpolate_last") or 1
    )
    return {adapter_name(one.steps, one.alpha): one for one in made}


def wrong_facts(snapshot: RunSnapshot, best: str) -> Iterator[str]:
    """What the adapter called `best` is decoded under follows from run.json and the trainer's own scores of it."""
    paths = snapshot.paths
    where = paths.best / ADAPTER_FACTS
    try:
        facts = read_facts(paths.best)
    except ModelError as error:
        yield str(error)
        return
    if facts is None:
        return
    data, train, model = (_section(snapshot, name) for name in ("data", "train", "model"))
    made = possible_candidates(snapshot).get(best)
    wanted: dict[str, Any] = {"step": adapter_step(best), "identity": snapshot.identity}
    wanted |= {"made_of": () if made is None else made.steps, "way": 1.0 if made is None else made.alpha}
    wanted |= {key: data[key] for key in ("target_rms", "normaliser") if key in data}
    wanted |= {key: train[key] for key in ("eval_batch_seconds",) if key in train}
    threads, devices = train.get("threads"), train.get("devices") or 1
    if isinstance(threads, int) and isinstance(devices, int):
        wanted["threads"] = threads_of_each(threads, devices)
    wanted |= {"revision": model["revision"]} if "revision" in model else {}
    if "model" in recorded_hashes(snapshot):
        wanted["model_hash"] = recorded_hashes(snapshot)["model"]
    score, _ = read_score(paths.evaluation(best, "domain"))
    if score is not None:
        wanted |= {"fingerprint": score.fingerprint, "precision": score.precision}
        names = ("tokens_per_second", "lifted", "language", "task", "prompt", "targets", "beams", "audio_context")
        wanted |= {name: getattr(score.decode, name) for name in names}
        if score.decode.beams != train.get("beams", 1):
            asked = f"gate.beams of the run was {train.get('beams', 1)}"
            yield f"{paths.evaluation(best, 'domain')}: decoded with beams = {score.decode.beams}, but {asked}"
        if score.decode.audio_context != model.get("audio_context"):
            heard, asked = (quoted(one) for one in (score.decode.audio_context, model.get("audio_context")))
            path = paths.evaluation(best, "domain")
            yield f"{path}: decoded with audio_context = {heard}, but model.audio_context of the run was {asked}"
    for key, value in wanted.items():
        if getattr(facts, key) != value:
            yield f"{where}: its {key} is {quoted(getattr(facts, key))}, the run's is {quoted(value)}"


def _section(snapshot: RunSnapshot, name: str) -> Mapping[str, Any]:
    value = snapshot.settings.get(name)
    return value if isinstance(value, dict) else {}


def recorded_hashes(snapshot: RunSnapshot) -> Mapping[str, Any]:
    """The content hashes of model and manifests in run.json; none where it does not say."""
    hashes = (snapshot.config or {}).get("hashes")
    return hashes if isinstance(hashes, dict) else {}


def wrong_identity(snapshot: RunSnapshot) -> Iterator[str]:
    """The identity follows from settings and hashes, and ends the folder's name."""
    written, paths = snapshot.identity, snapshot.paths
    try:
        computed = run_identity(settings_from(snapshot.settings), recorded_hashes(snapshot))
    except (TypeError, ValueError, KeyError):
        yield f"{paths.config}: its settings are not whole, so its identity cannot be computed"
        return
    model, digest = snapshot.settings["model"], str(recorded_hashes(snapshot).get(MODEL))
    if digest.startswith(HUB) and digest != hub_hash(str(model.get("id")), model.get("revision")):
        yield f"{paths.config}: its model is {model.get('id')}@{model.get('revision')}, its hash that of {digest}"
    if computed != written:
        yield f"{paths.config}: settings and hashes give identity {computed}, not {written}"
    if not paths.name.endswith(f"-{written}"):
        yield f"{paths.root}: the folder's name does not end in the run's identity, {written}"


def wrong_result(snapshot: RunSnapshot, artifact: Artifact | None, more: Mapping[str, Any]) -> Iterator[str]:
    """result.json says what events and adapter say, and `more`."""
    result, path = snapshot.result, snapshot.paths.result
    if result is None:
        return
    wanted: dict[str, Any] = {
        "outcome": "done",
        "steps_completed": snapshot.steps_completed,
        "adapter_hash": artifact.current_hash if artifact is not None else None,
    }
    for key, value in (wanted | dict(more)).items():
        if result.get(key) != value:
            yield f"{path}: its {key} is {quoted(result.get(key))}, the run's other files say {quoted(value)}"
