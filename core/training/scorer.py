"""Scores a model on an evaluation set within a run: writes progress into the journal, and stops when it is asked to."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import Interrupted
from core.plan.schema import RunSettings
from core.runs.scores import Score
from core.scoring.units import Unit
from core.training.data import Dataset
from core.training.evaluation import Transcripts, check_words, counted, score_document, transcripts
from core.training.families.base import SpeechModel
from core.training.journal import Journal
from core.training.stopping import StopFlag


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores with a run's settings: the baseline and every interval pass through the same call."""

    settings: RunSettings
    journal: Journal
    stopping: StopFlag
    unit: Unit = Unit.WORD
    """What errors are counted by: `[gate] unit`."""

    def __call__(self, model: SpeechModel, dataset: Dataset, step: int, adapter_hash: str | None) -> Score:
        """The score document (docs/events.md). Raises Interrupted when asked to stop."""
        return self.document(model, dataset, step, adapter_hash, self.transcripts(model, dataset, step))

    def transcripts(self, model: SpeechModel, dataset: Dataset, step: int) -> Transcripts:
        """What the model makes of the set's audio. Raises Interrupted when asked to stop."""

        def progress(done: int, total: int) -> None:
            self.journal.progress(done, total)
            if self.stopping():
                raise Interrupted(f"stopped while evaluating step {step}; the evaluation is made again on resume")

        data = self.settings.data
        check_words(dataset.manifest, data.normaliser)
        return transcripts(
            model.for_scoring(),
            dataset.manifest,
            dataset.clips,
            target_rms=data.target_rms,
            batch_seconds=self.settings.train.eval_batch_seconds,
            progress=progress,
        )

    def document(
        self, model: SpeechModel, dataset: Dataset, step: int, adapter_hash: str | None, found: Transcripts
    ) -> Score:
        """The score document over transcripts: counts are counted here, all else comes from the set's manifest."""
        self.stopping.check_folder()
        data = self.settings.data
        return score_document(
            counted(found, dataset.manifest, dataset.clips, data.normaliser, self.unit),
            model.for_scoring(),
            dataset=dataset.name,
            manifest=dataset.manifest,
            manifest_sha256=dataset.sha256,
            step=step,
            target_rms=data.target_rms,
            normaliser_name=data.normaliser,
            adapter_hash=adapter_hash,
        )
