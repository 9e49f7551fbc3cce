"""The verdict on a run by its files: evidence is gathered and judged here and nowhere else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.runs.chances import chances_so_far
from core.runs.consistency import candidates_to_come
from core.runs.evidence import gather, planned_intervals
from core.runs.exports import export_facts
from core.runs.paths import RunPaths, adapter_words
from core.runs.scores import Score, read_score
from core.runs.snapshot import RunSnapshot
from core.runs.status import Status
from core.scoring.evidence import Artifact, Criterion, Evidence, State, Thresholds, Verdict, best_scores
from core.scoring.outlook import outlook
from core.scoring.standing import Standing
from core.scoring.units import Unit
from core.scoring.verdict import judge, thresholds_of


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A run at one moment, and what its files come to."""

    snapshot: RunSnapshot
    thresholds: Thresholds
    """What the verdict was passed by."""
    evidence: Evidence
    problems: tuple[str, ...]
    """One sentence for each file that should have been evidence and could not be."""
    verdict: Verdict
    standing: Standing
    gave_up: str | None = None
    """Why the queue does not go on with a run that did not end by itself."""

    @property
    def ended(self) -> bool:
        """Whether the verdict is the last word: the run is done, broke, or was given up."""
        return _ended(self.snapshot, self.gave_up)

    def so_far(self) -> dict[str, Criterion]:
        """What the WER criteria would be by the trainer's own score at the best interval, while none is tuned."""
        evidence = self.evidence
        domain, heldout = best_scores(evidence, self.verdict.best_step)
        tuned = evidence.tuned_domain is not None and evidence.tuned_heldout is not None
        if domain is None or heldout is None or tuned:
            return {}
        guess = replace(evidence, tuned_domain=domain.counts, tuned_heldout=heldout.counts)
        would_be = judge(guess, self.thresholds)
        names = ("domain_gain", "heldout")
        return {n: would_be.criterion(n) for n in names if self.verdict.criterion(n).state is State.UNKNOWN}


def judged(snapshot: RunSnapshot, thresholds: Thresholds, gave_up: str | None = None) -> Judged:
    """The run's evidence and its verdict by these thresholds. Never raises for what is in the files.

    `gave_up` rejects: why the queue does not go on with a run that did not end by itself.
    """
    gathered = gather(snapshot, snapshot.paths, gave_up, thresholds)
    verdict = judge(gathered.evidence, thresholds)
    ended = _ended(snapshot, gave_up)
    planned = planned_intervals(snapshot)
    interval = verdict.best_step if verdict.chosen is None else None
    chances = None if ended else chances_so_far(snapshot, interval, thresholds)
    stands = outlook(
        gathered.evidence,
        thresholds,
        verdict,
        ended=ended,
        evaluated=planned,
        chances=chances,
        candidates=0 if ended else candidates_to_come(snapshot, planned),
    )
    if snapshot.unit is not thresholds.unit:  # whoever draws its intervals draws what the gate counts
        snapshot = replace(snapshot, intervals=gathered.evidence.intervals, unit=thresholds.unit)
    return Judged(snapshot, thresholds, gathered.evidence, gathered.problems, verdict, stands, gave_up)


def _ended(snapshot: RunSnapshot, gave_up: str | None) -> bool:
    return snapshot.state is Status.DONE or snapshot.state.broken or gave_up is not None


def recorded_thresholds(config: Mapping[str, Any] | None) -> Thresholds:
    """Those of the `[gate]` that a run was submitted with. `config`: its run.json; None: the defaults.

    TypeError or ValueError where its values are none that a plan can have.
    """
    return thresholds_of((config or {}).get("gate") or {})


# What a verdict rests on, for a report: run, adapter, model, data, decoding and code, and how to do it again

Fact = tuple[str, str]
"""(what, its value); the value is text from files, shown as plain content."""
_UNKNOWN = "not recorded"


def origin(judged: Judged) -> tuple[Fact, ...]:
    """The facts, in the order of a report. What the files do not say is `not recorded`, never left out."""
    snapshot, paths, artifact = judged.snapshot, judged.snapshot.paths, judged.evidence.artifact
    attempt = snapshot.attempts[-1] if snapshot.attempts else None
    scores = {name: read_score(paths.tuned(name))[0] for name in ("domain", "heldout")}
    device = "" if attempt is None else f"{attempt.device}, {attempt.precision}"
    versions = {} if attempt is None else attempt.versions
    facts = [
        ("Run", f"{paths.name}, identity {snapshot.identity or _UNKNOWN}"),
        ("Attempt", str(attempt.number) if attempt is not None else ""),
        ("Adapter", _adapter(artifact)),
        ("Base model", _model(snapshot)),
        ("Manifests", _pairs(_dict(snapshot.config, "hashes"), leave_out="model")),
        ("Text normaliser", _same(scores, lambda s: _pairs(s.conditions.get("normaliser")))),
        ("Errors counted in", _counted(judged, scores)),
        ("Decoding", _same(scores, lambda s: _pairs(s.conditions.get("decode")))),
        ("Normalisation fingerprint", _same(scores, lambda s: s.fingerprint or "")),
        ("Evaluation batches", _pairs({name: s.batch_plan for name, s in scores.items() if s is not None})),
        ("Training batches", str((snapshot.result or {}).get("batch_plan") or "")),
        ("Code", _code(_dict(snapshot.config, "provenance"))),
        ("Libraries", _pairs(versions)),
        ("Trained on", device),
        ("Scored on", _same(scores, lambda s: f"{s.device}, {s.precision}")),
        *commands(snapshot, paths),
    ]
    return tuple((name, value or _UNKNOWN) for name, value in facts)


def commands(snapshot: RunSnapshot, paths: RunPaths) -> list[Fact]:
    """What makes the verdict, and the scores under it, again."""
    data = snapshot.settings.get("data")
    found = [("Verdict again", shlex.join(["lora-tui", "verify", str(paths.root)]))]
    for name in ("domain", "heldout"):
        manifest = data.get(name) if isinstance(data, dict) else None
        if isinstance(manifest, str):
            command = ["lora-cli", "evaluate", manifest, "--adapter", str(paths.best)]
            command += [] if snapshot.unit is Unit.WORD else ["--unit", snapshot.unit.value]
            found.append((f"{name.capitalize()} score again", shlex.join(command)))
    return found


def exports_found(judged: Judged) -> tuple[Fact, ...]:
    """What was exported of the run, whether its gate asks for one or not."""
    artifact = judged.evidence.artifact
    digest = None if artifact is None else artifact.current_hash
    return export_facts(judged.snapshot.paths, digest)


def _counted(judged: Judged, scores: Mapping[str, Score | None]) -> str:
    """What is counted, and where the run's own scores count otherwise."""
    unit = judged.thresholds.unit
    others = dict.fromkeys(
        score.unit.plural for score in scores.values() if score is not None and score.unit is not unit
    )
    return unit.plural + "".join(f", again from the texts: the run was scored in {other}" for other in others)


def _adapter(artifact: Artifact | None) -> str:
    if artifact is None or (artifact.current_hash is None and artifact.best_step is None):
        return ""
    step = "" if artifact.best_name is None else f", {adapter_words(artifact.best_name)}"
    return f"{artifact.current_hash or _UNKNOWN}{step}"


def _dict(config: Mapping[str, Any] | None, key: str) -> Mapping[str, Any]:
    value = (config or {}).get(key)
    return value if isinstance(value, dict) else {}


def _model(snapshot: RunSnapshot) -> str:
    model = _dict(snapshot.settings, "model")
    digest = _dict(snapshot.config, "hashes").get("model")
    revision = model.get("revision")
    parts = [model.get("id"), f"revision {revision}" if revision else "no revision", f"hash {digest}"]
    return ", ".join(str(part) for part in parts) if model else ""


def _code(provenance: Mapping[str, Any]) -> str:
    version = provenance.get("code_version")
    if not version:
        return ""
    word = {True: ", with changes that were not committed", False: ", no uncommitted changes", None: ""}
    return f"{version}{word.get(provenance.get('dirty'), '')}"


def _pairs(values: object, leave_out: str = "") -> str:
    if not isinstance(values, Mapping):
        return ""
    shown = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items() if k != leave_out}
    return ", ".join(f"{key} {value}" for key, value in sorted(shown.items()))


def _same(scores: Mapping[str, Score | None], of: Any) -> str:
    """What the scores of both sets say; both, where they differ."""
    found = {name: str(of(score)) for name, score in scores.items() if score is not None}
    if len(set(found.values())) <= 1:
        return next(iter(found.values()), "")
    return "; ".join(f"{name}: {value}" for name, value in found.items())
