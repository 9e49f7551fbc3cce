"""Score documents: what `evals/…/*.json` and `lora-cli evaluate --json` hold (docs/events.md).

Every reader and every writer passes through `Score`, which is decoded whole and strictly: a document with a value of
another type, a count that its utterances do not bear out or a clip twice is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec

from core.errors import RunFolderError
from core.manifests.hashing import Line, lines_sha256
from core.runs.folder import linked_adapter
from core.runs.paths import RunPaths, adapter_words
from core.sanitise import quoted
from core.scoring.units import ErrorCounts, Unit, total
from core.system.files import SCORES_BYTES, exists, parse_json, read_bytes, stamp

SCHEMA_VERSION = 2
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class ScoreError(ValueError):
    """What is no score document; the message says why."""


class _Counted(msgspec.Struct, frozen=True, gc=False):
    substitutions: Count
    deletions: Count
    insertions: Count
    reference_words: Count

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions


class Counts(_Counted, frozen=True, gc=False):
    """Errors over a document."""

    @property
    def plain(self) -> ErrorCounts:
        """As scoring takes them."""
        return ErrorCounts(self.substitutions, self.deletions, self.insertions, self.reference_words)


class ScoredUtterance(_Counted, frozen=True, kw_only=True, gc=False):
    """One clip: texts as they are, the errors between their normalised forms, and what is used of its manifest line."""

    id: str
    reference: str
    hypothesis: str
    seconds: Seconds
    """Of audio, as it was heard."""
    offset: Seconds
    duration: Seconds | None
    """As the line gives them."""
    channel: int | None
    speaker: str | None
    fields: dict[str, str | int | float]

    @property
    def counts(self) -> ErrorCounts:
        """As scoring takes them."""
        return ErrorCounts(self.substitutions, self.deletions, self.insertions, self.reference_words)

    @property
    def line(self) -> Line:
        """What is used of its manifest line."""
        return Line(self.id, self.reference, self.offset, self.duration, self.channel, self.speaker, self.fields)

    @property
    def clip(self) -> tuple[object, ...]:
        """All that does not depend on the model: equal in all scores of a set."""
        line = (self.id, self.reference, self.offset, self.duration, self.channel, self.speaker, self.fields)
        return *line, self.seconds, self.reference_words


class NormaliserName(msgspec.Struct, frozen=True):
    """Which text normaliser."""

    name: str
    version: int


class Decoding(msgspec.Struct, frozen=True, omit_defaults=True):
    """How transcripts are written, and their longest lengths."""

    method: str
    """greedy or beam."""
    tokens_per_second: Annotated[float, msgspec.Meta(gt=0)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    lifted: tuple[Count, ...]
    """Tokens that the model's generation config bans, and that were allowed because training texts have them."""
    language: str | None = None
    task: str | None = None
    """As the plan gives them."""
    prompt: tuple[Count, ...] = ()
    """Tokens that each transcript of a clip without a language of its own begins with, where the model has a choice."""
    targets: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Version of what the family takes for the targets of a text."""
    beams: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Hypotheses of the beam search. A greedy document does not say it."""
    audio_context: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Seconds heard after a clip, where a Whisper does not hear its whole window."""


class Single(msgspec.Struct, frozen=True):
    """Clips that were also decoded one by one."""

    compared: Count
    differing: Count


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One manifest scored with one model."""

    schema: int
    dataset: str
    manifest: str
    manifest_sha256: str
    step: Count | None
    """Of the adapter; 0: the base model; None: of an adapter that another program made."""
    normaliser: NormaliserName
    fingerprint: str
    """Normalisation fingerprint: audio path and text normaliser."""
    device: str
    precision: str
    batch_plan: str
    """Hash of the evaluation batches."""
    decode: Decoding
    adapter_hash: str | None
    loss: float | None
    unit: Unit = Unit.WORD
    """What the counts are of; documents that do not say it count words."""
    counts: Counts
    single: Single | None
    silent: tuple[str, ...]
    cut: tuple[str, ...]
    capped: tuple[str, ...]
    """Utterances whose transcript reached its token cap."""
    clipped_samples: Count
    utterances: tuple[ScoredUtterance, ...]

    @property
    def conditions(self) -> dict[str, Any]:
        """What must be equal for two error rates to compare: manifest, normaliser, unit and decode settings."""
        names = ("manifest_sha256", "normaliser", "unit", "decode")
        return {name: msgspec.to_builtins(getattr(self, name)) for name in names}

    @property
    def capped_texts(self) -> list[tuple[str, str]]:
        """(reference, hypothesis) of the transcripts that reached their token cap."""
        named = set(self.capped)
        return [(u.reference, u.hypothesis) for u in self.utterances if u.id in named]

    @property
    def event(self) -> dict[str, Any]:
        """What the event of an interval says of it."""
        return {**msgspec.to_builtins(self.counts), "loss": self.loss}

    @property
    def lines_sha256(self) -> str:
        """The hash that run.json records of the manifest (core.manifests.hashing), by what this document has."""
        return lines_sha256(utterance.line for utterance in self.utterances)

    def differing_clip(self, other: Score) -> str | None:
        """Where the two are not scores of the same clips in the same order, in words; None where they are."""
        if len(self.utterances) != len(other.utterances):
            return f"{len(other.utterances)} utterances instead of {len(self.utterances)}"
        for mine, theirs in zip(self.utterances, other.utterances, strict=True):
            if mine.clip != theirs.clip:
                names = ("id", "reference", "seconds", "offset", "duration", "channel", "speaker", "fields")
                differing = [name for name in names if getattr(mine, name) != getattr(theirs, name)]
                return f"utterance {mine.id} has another {' and '.join(differing or ['number of reference words'])}"
        return None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def decode_score(data: bytes) -> Score:
    """The score document in `data`. ScoreError when it is none."""
    try:
        document = parse_json(data)
        written = document.get("schema") if isinstance(document, dict) else SCHEMA_VERSION
        if written != SCHEMA_VERSION:
            raise ScoreError(
                f"schema {quoted(written)}, not {SCHEMA_VERSION}: scored by another version; score it again"
            )
        score = msgspec.convert(document, Score)
    except json.JSONDecodeError as error:
        raise ScoreError("not JSON") from error
    except (msgspec.ValidationError, ValueError) as error:
        raise ScoreError(str(error)) from error
    problem = _unsound(score)
    if problem is not None:
        raise ScoreError(problem)
    return score


def _unsound(score: Score) -> str | None:
    """What does not hold together within the document."""
    if not score.utterances or total(u.counts for u in score.utterances) != score.counts.plain:
        return "the counts are not the sum over its utterances"
    ids = {u.id for u in score.utterances}
    if len(ids) < len(score.utterances):
        return "utterances with the same id"
    if not all(ids.issuperset(named) for named in (score.silent, score.cut, score.capped)):
        return "silent, cut or capped clips that are not among its utterances"
    if score.single is not None and not score.single.differing <= score.single.compared <= len(ids):
        return "more clips decoded one by one than there are"
    numbers = [score.loss, score.decode.tokens_per_second]
    numbers += [number for u in score.utterances for number in (u.seconds, u.offset, u.duration)]
    if not all(number is None or math.isfinite(number) for number in numbers):
        return "a number that is not finite"
    return None


def read_score(path: Path) -> tuple[Score | None, str | None]:
    """(the score in `path`, None), or (None, what is wrong with it: or missing). Never raises."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None, f"{path}: missing"
    except OSError as error:
        return None, f"{path}: cannot be read: {error.strerror}"
    return _read(path, stamp(status))


@lru_cache(maxsize=24)
def _read(path: Path, _stamp: tuple[int, ...]) -> tuple[Score | None, str | None]:
    # A dashboard asks again every second; the stamp makes the answer cacheable.
    try:
        return decode_score(read_bytes(path, SCORES_BYTES)), None
    except ScoreError as error:
        return None, f"{path}: not a score document: {error}"
    except FileNotFoundError:
        return None, f"{path}: missing"
    except OSError as error:
        return None, f"{path}: cannot be read: {error.strerror}"


def mappings(utterances: Sequence[ScoredUtterance]) -> list[Mapping[str, Any]]:
    """The utterances as core.scoring takes them."""
    found: list[Mapping[str, Any]] = msgspec.to_builtins(utterances)
    return list(found)


# What an adapter did to each clip of a set: the base model's transcripts against the tuned ones


@dataclass(frozen=True, slots=True)
class ClipChange:
    """One clip before and after training; texts as they are, not normalised."""

    id: str
    reference: str
    before: str
    after: str
    counts_before: ErrorCounts
    counts_after: ErrorCounts
    seconds: float

    @property
    def kind(self) -> str:
        """broken: more errors than before; never learnt: errors, and no fewer; better; right."""
        before, after = self.counts_before.errors, self.counts_after.errors
        if after > before:
            return "broken"
        return "right" if not after and not before else "never learnt" if after == before else "better"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A set's clips, in the manifest's order."""

    manifest: Path
    normaliser: str
    unit: Unit
    source: str
    """Where the later transcripts come from: `tuned`, or which adapter is the best."""
    clips: tuple[ClipChange, ...]


def compare(paths: RunPaths, dataset: str) -> Comparison:
    """Interval 0 against the tuned score of lora_adapter_best, or against its own interval before there is one.

    Raises RunFolderError when a score is missing, damaged, or of another manifest.
    """
    first = _score(paths.evaluation(0, dataset), "the base model's score")
    source, path = "tuned", paths.tuned(dataset)
    if not exists(path):
        best = linked_adapter(paths, paths.best)
        if best is None:
            raise RunFolderError(
                f"{paths.root}: no tuned score of {dataset} and no lora_adapter_best yet: wait for one"
            )
        source, path = adapter_words(best), paths.evaluation(best, dataset)
    second = _score(path, "the adapter's score")
    if first.manifest_sha256 != second.manifest_sha256:
        raise RunFolderError(f"{path}: not scored on the manifest of interval 0: evaluate the adapter on that again")
    if first.normaliser != second.normaliser:
        raise RunFolderError(f"{path}: not scored under the text normaliser of interval 0: evaluate again under that")
    if first.unit is not second.unit:
        what = f"counts {second.unit.plural}, interval 0 {first.unit.plural}"
        raise RunFolderError(f"{path}: {what}: evaluate again with --unit {first.unit}")
    differing = first.differing_clip(second)
    if differing is not None:
        raise RunFolderError(f"{path}: not the clips of interval 0 ({differing}): evaluate again")
    clips = tuple(_change(*pair) for pair in zip(first.utterances, second.utterances, strict=True))
    return Comparison(Path(second.manifest), second.normaliser.name, second.unit, source, clips)


def _score(path: Path, what: str) -> Score:
    score, problem = read_score(path)
    if score is None:
        raise RunFolderError(f"{problem}: {what} is needed: name a run folder that has it, or evaluate again")
    return score


def _change(first: ScoredUtterance, second: ScoredUtterance) -> ClipChange:
    return ClipChange(
        id=second.id,
        reference=second.reference,
        before=first.hypothesis,
        after=second.hypothesis,
        counts_before=first.counts,
        counts_after=second.counts,
        seconds=second.seconds,
    )
