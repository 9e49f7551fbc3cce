"""The families of speech recognisers that can be fine-tuned, and what can be said of each without loading it. Pure.

A family is a line here and a module of `core.training.families` of the same name, which holds its code. A plan is
checked by this table and the model folder's files.
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL_SECONDS = 30.0
"""What a model hears of a clip, where its family says nothing else."""


@dataclass(frozen=True, slots=True)
class FamilyFacts:
    """One family. Names of layers are the last parts of module names; those that a model lacks mean nothing."""

    name: str
    """Of the module in `core.training.families`."""
    model_types: tuple[str, ...]
    """`model_type` in config.json."""
    loader: str = "AutoModelForSpeechSeq2Seq"
    """The class of transformers that loads it."""
    attention: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    mlp: tuple[str, ...] = ("fc1", "fc2")
    encoder: str = r"(.*\.)?encoder\."
    """Regular expression that the names of the encoder's modules begin with."""
    decoder: str | None = r"(.*\.)?decoder\."
    """Likewise; None: it has no decoder."""
    default_sites: str = "both"
    """Where adapters go unless a plan says otherwise: encoder, decoder or both."""
    windowed: bool = False
    """Whether every clip is padded to the window of its feature extractor, which is the longest that it hears."""

    def max_seconds(self, chunk_length: object = None) -> float:
        """The longest clip that a model hears in one piece. `chunk_length`: of its feature extractor, if it has one."""
        if self.windowed and isinstance(chunk_length, (int, float)) and chunk_length > 0:
            return float(chunk_length)
        return MODEL_SECONDS

    def encoder_seconds(self, seconds: float, chunk_length: object = None) -> float:
        """What the encoder computes over for a clip of so many seconds."""
        return self.max_seconds(chunk_length) if self.windowed else seconds


FAMILIES = (
    FamilyFacts("whisper", ("whisper",), windowed=True),
    FamilyFacts("moonshine", ("moonshine",), attention=("q_proj", "k_proj", "v_proj", "o_proj")),
    FamilyFacts("moonshine_streaming", ("moonshine_streaming",), attention=("q_proj", "k_proj", "v_proj", "o_proj")),
    FamilyFacts(
        "seq2seq",
        ("speech_to_text", "speecht5", "speech-encoder-decoder"),
        mlp=("fc1", "fc2", "intermediate_dense", "output_dense"),
    ),
)


def family_of(model_type: object) -> FamilyFacts | None:
    """The family of a `model_type`; None: it cannot be trained here."""
    return next((facts for facts in FAMILIES if model_type in facts.model_types), None)


def refusal(model_type: object) -> str:
    """What to say of a model whose `model_type` belongs to no family."""
    known = ", ".join(model_type for facts in FAMILIES for model_type in facts.model_types)
    named = f"model_type {model_type}" if isinstance(model_type, str) else "no model_type"
    return f"its config.json names {named}, which cannot be fine-tuned here; what can be: {known}"
