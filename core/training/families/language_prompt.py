"""Families whose prompt names the language of a clip, in the form of their own processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from core.errors import ModelError
from core.training.families.base import SpeechModel


@dataclass(kw_only=True, eq=False)
class PromptPerLanguage(SpeechModel):
    """A prompt for each language, made once."""

    prompts: dict[str, Any] = field(init=False, default_factory=dict, repr=False)

    def prompt_in(self, language: str | None, make: Callable[[str], Any]) -> Any:
        """The prompt of a clip in `language`, or in that of the model where the clip names none.

        `make` makes that of a code. Raises ModelError where no language is named, or the files give no prompt.
        """
        told = language or self.language
        if told is None:
            raise ModelError("model.language: missing, and this model is told what is spoken")
        if told not in self.prompts:
            try:
                # a processor may hear silence for it, as features are heard: not in bf16
                with torch.autocast("cpu", enabled=False):
                    self.prompts[told] = make(told)
            except (KeyError, TypeError, ValueError) as error:
                raise ModelError(
                    f"model: its processor makes no prompt in {told} ({error}); its chat template or the control "
                    "tokens of its tokenizer are missing, or of another model: save or download it again"
                ) from error
        return self.prompts[told]
