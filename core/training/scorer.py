"""Score a model on an evaluation set within a run: progress into the journal, and an ear for the stop signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.errors import Interrupted
from core.plan.schema import RunSettings
from core.training.data import Dataset
from core.training.evaluation import evaluate, score_document
from core.training.journal import Journal
from core.training.model import SpeechModel
from core.training.stopping import StopFlag


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores with a run's settings: the baseline and every interval pass through the same call."""

    settings: RunSettings
    journal: Journal
    stopping: StopFlag

    def __call__(self, model: SpeechModel, dataset: Dataset, step: int, adapter_hash: str | None) -> dict[str, Any]:
        """The score document (docs/events.md). Raises Interrupted when asked to stop."""

        def progress(done: int, total: int) -> None:
            self.journal.progress(done, total)
            if self.stopping():
                raise Interrupted(f"stopped while evaluating step {step}; the evaluation is made again on resume")

        data = self.settings.data
        model = model.for_scoring()
        evaluation = evaluate(
            model,
            dataset.manifest,
            dataset.clips,
            normaliser_name=data.normaliser,
            target_rms=data.target_rms,
            batch_seconds=self.settings.train.eval_batch_seconds,
            progress=progress,
        )
        self.stopping.check_folder()
        return score_document(
            evaluation,
            model,
            dataset=dataset.name,
            manifest=dataset.manifest,
            manifest_sha256=dataset.sha256,
            step=step,
            target_rms=data.target_rms,
            normaliser_name=data.normaliser,
            adapter_hash=adapter_hash,
        )
