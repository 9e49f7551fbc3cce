"""What an adapter did to each clip of a set: the base model's transcripts against the tuned ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.errors import RunFolderError
from core.runs.folder import linked_adapter
from core.runs.paths import RunPaths
from core.runs.scores import Score, ScoredUtterance, read_score
from core.scoring.counts import ErrorCounts
from core.scoring.units import Unit
from core.system.files import exists


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
    """Where the later transcripts come from: `tuned`, or the interval of the best adapter."""
    clips: tuple[ClipChange, ...]


def compare(paths: RunPaths, dataset: str) -> Comparison:
    """Interval 0 against the tuned score of lora_adapter_best, or against its own interval before there is one.

    Raises RunFolderError when a score is missing, damaged, or of another manifest.
    """
    first = _score(paths.evaluation(0, dataset), "the base model's score")
    source, path = "tuned", paths.tuned(dataset)
    if not exists(path):
        step = linked_adapter(paths, paths.best)
        if step is None:
            raise RunFolderError(
                f"{paths.root}: no tuned score of {dataset} and no lora_adapter_best yet: wait for one"
            )
        source, path = f"step {step}", paths.evaluation(step, dataset)
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
