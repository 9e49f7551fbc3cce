"""What an adapter did to each clip of a set: the base model's transcripts against the tuned ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import RunFolderError
from core.runs.files import SCORES_BYTES, read_json
from core.runs.fold import counts_of
from core.runs.folder import linked_adapter
from core.runs.paths import RunPaths
from core.runs.scores import score_of
from core.scoring.counts import ErrorCounts


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
    source: str
    """Where the later transcripts come from: `tuned`, or the interval of the best adapter."""
    clips: tuple[ClipChange, ...]


def compare(paths: RunPaths, dataset: str) -> Comparison:
    """Interval 0 against the tuned score of lora_adapter_best, or against its own interval before there is one.

    Raises RunFolderError when a score is missing, damaged, or of another manifest.
    """
    first = _document(paths.evaluation(0, dataset), "the base model's score")
    source, path = "tuned", paths.tuned(dataset)
    if not path.exists():
        step = linked_adapter(paths, paths.best)
        if step is None:
            raise RunFolderError(
                f"{paths.root}: no tuned score of {dataset} and no lora_adapter_best yet: wait for one"
            )
        source, path = f"step {step}", paths.evaluation(step, dataset)
    second = _document(path, "the adapter's score")
    if first.get("manifest_sha256") != second.get("manifest_sha256"):
        raise RunFolderError(f"{path}: not scored on the manifest of interval 0: evaluate the adapter on that again")
    if first.get("normaliser") != second.get("normaliser"):
        raise RunFolderError(f"{path}: not scored under the text normaliser of interval 0: evaluate again under that")
    before = {str(u["id"]): u for u in first["utterances"]}
    try:
        clips = tuple(_change(before[str(u["id"])], u) for u in second["utterances"])
        normaliser = str(second["normaliser"]["name"])
        manifest = Path(str(second["manifest"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path}: not the clips of interval 0 ({error}): evaluate again") from error
    return Comparison(manifest, normaliser, source, clips)


def _document(path: Path, what: str) -> Mapping[str, Any]:
    document, problem = read_json(path, SCORES_BYTES)
    if document is None:
        raise RunFolderError(f"{path}: {what} cannot be read ({problem or 'missing'}): name a run folder that has it")
    try:
        score_of(document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunFolderError(f"{path}: not a score document ({error}): evaluate again") from error
    return document


def _change(first: Mapping[str, Any], second: Mapping[str, Any]) -> ClipChange:
    return ClipChange(
        id=str(second["id"]),
        reference=str(second["reference"]),
        before=str(first["hypothesis"]),
        after=str(second["hypothesis"]),
        counts_before=counts_of(first),
        counts_after=counts_of(second),
        seconds=float(second["seconds"]),
    )
