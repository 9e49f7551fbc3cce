"""The families of speech recognisers that can be fine-tuned, and what can be said of each without loading it. Pure.

A family is a line here and a module of `core.training.families` of the same name, which holds its code. A plan is
checked by this table and the model folder's files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.plan.schema import TrainSettings

MODEL_SECONDS = 30.0
"""What a model hears of a clip, where its family says nothing else."""
LANGUAGES_SHOWN = 100
"""Codes that a message lists at most; MMS has over a thousand."""

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages that are written without spaces between words, as transformers splits Whisper's words."""


@dataclass(frozen=True, slots=True)
class FamilyFacts:
    """One family. Names of layers are the last parts of module names; those that a model lacks mean nothing."""

    name: str
    """Of the module in `core.training.families`."""
    model_types: tuple[str, ...]
    """`model_type` in config.json."""
    loader: str = "AutoModelForSpeechSeq2Seq"
    """The class of transformers that loads it."""
    processors: tuple[str, ...] = ("AutoProcessor",)
    """Those that load its processor: the first that can."""
    unused: tuple[str, ...] = ()
    """Names, last parts, of weights that nothing here computes with, so that a model's files may lack them."""
    attention: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    mlp: tuple[str, ...] = ("fc1", "fc2")
    encoder: str = r"(.*\.)?encoder\."
    """Regular expression that the names of the encoder's modules begin with."""
    decoder: str | None = r"(.*\.)?decoder\."
    """Likewise; None: it has no decoder."""
    default_sites: str = "both"
    """Where adapters go unless a plan says otherwise: encoder, decoder or both."""
    language: str = "refused"
    """Whether a clip's language is part of its prompt: refused, optional, or required where the model has several.

    Or single: all clips have one, where the model has a vocabulary for each (MMS).
    """
    languages: tuple[str, ...] = ()
    """Codes of its languages; none here: those of `lang_to_id` in generation_config.json, or of vocab.json."""
    tasks: tuple[str, ...] = ()
    """Values of `model.task`, the default first."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Regular expressions in the names of a model's files, and what transformers makes of them when it loads."""
    beams: bool = False
    """Whether it can decode by beam search."""
    divergence: bool = True
    """Whether what it writes is a distribution over units at each of a clip's frames or tokens, as `train.kl` needs."""
    spectrogram: tuple[int, int] | None = None
    """Which axes of its `input_features` (clips, …) are time and frequency; None: it hears samples.

    Those of `HEAR_SAMPLES` do so whatever their family does.
    """
    frames_per_second: float = 50.0
    """Of the encoder's layers, where config.json does not say it; memory is forecast from it."""
    leading_space: bool = False
    """Whether its tokens of words begin with a space, that of a text's first word too, but in `UNSPACED` languages."""
    heads: tuple[str, ...] = ()
    """Names, last parts, of the layer that writes units: a model that was only pre-trained has none of them."""
    blank: bool = False
    """Whether the tokenizer's padding token is one of the head's units, that writes nothing."""
    multilingual_from: int | None = None
    """Entries of a vocabulary from which on a model has several languages, though its files list none."""
    chat_template: bool = False
    """Whether the prompt is made by the processor's chat template."""
    control: tuple[str, ...] = ()
    """Tokens that the prompt is made of, `{language}` being a code."""
    windowed: bool = False
    """Whether every clip is padded to the window of its feature extractor, which is the longest that it hears."""
    audio_context: bool = False
    """Whether it can hear a part of that window, by the first of its positions."""

    def module(self, name: str) -> str:
        """The module that a name in the model's files belongs to."""
        for pattern, replacement in self.renamed:
            name = re.sub(pattern, replacement, name)
        return name

    def spelled(self, text: str, language: str | None = None) -> str:
        """A transcript as its tokenizer is given it, which is as the model's own training had it."""
        if not self.leading_space or not text.strip():
            return text
        return text.strip() if language in UNSPACED else f" {text.strip()}"

    def max_seconds(self, chunk_length: object = None) -> float:
        """The longest clip that a model hears in one piece. `chunk_length`: of its feature extractor, if it has one."""
        if self.windowed and isinstance(chunk_length, (int, float)) and chunk_length > 0:
            return float(chunk_length)
        return MODEL_SECONDS

    def encoder_seconds(self, seconds: float, chunk_length: object = None) -> float:
        """What the encoder computes over for a clip of so many seconds."""
        return self.max_seconds(chunk_length) if self.windowed else seconds


_TEXT_DECODER: dict[str, Any] = {
    "loader": "AutoModelForMultimodalLM",
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "out_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj", "fc1", "fc2"),
    "encoder": r"(.*\.)?audio_tower\.",
    "decoder": r"(.*\.)?language_model\.",
    "default_sites": "decoder",
    "language": "required",
    "spectrogram": (2, 1),
}
"""Of language models that hear: an audio encoder, and a text decoder with gates in its MLP."""
_FAST_CONFORMER: dict[str, Any] = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "relative_k_proj"),
    "mlp": ("linear1", "linear2", "fc1", "fc2"),
    "language": "required",
    "beams": True,
    "spectrogram": (1, 2),
}
"""Of encoder–decoders that are given language and style in a prompt."""
_QWEN = "ar cs da de el en es fa fi fil fr hi hu id it ja ko mk ms nl pl pt ro ru sv th tr vi yue zh"
_COHERE = "ar de el en es fr it ja ko nl pl pt vi zh"
_CANARY = "bg cs da de el en es et fi fr hr hu it lt lv mt nl pl pt ro ru sk sl sv uk"
_ISO_639_1 = """
af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr ga gl gu ha he hi hr ht hu hy id ig is it
ja jv ka kk km kn ko ky la lb ln lo lt lv mg mi mk ml mn mr ms mt my nb ne nl nn no oc or pa pl ps pt ro ru rw sa sd si
sk sl sn so sq sr su sv sw ta te tg th tk tl tn tr tt ug uk ur uz vi wo xh yi yo zh zu
"""
"""Voxtral spells the code in letters and was trained on some; an adapter may teach it others."""

_COHERE_FILES = (
    (r"\.transf_decoder\._decoder\.layers\.", ".decoder.layers."),
    (r"\.first_sub_layer\.", ".self_attn."),
    (r"\.second_sub_layer\.", ".encoder_attn."),
    (r"\.third_sub_layer\.dense_in$", ".mlp.fc1"),
    (r"\.third_sub_layer\.dense_out$", ".mlp.fc2"),
    (r"\.(?:query_net|linear_q)$", ".q_proj"),
    (r"\.(?:key_net|linear_k)$", ".k_proj"),
    (r"\.(?:value_net|linear_v)$", ".v_proj"),
    (r"\.(?:out_projection|linear_out)$", ".o_proj"),
    (r"\.linear_pos$", ".relative_k_proj"),
    (r"\.pre_encode\.out$", ".subsampling.linear"),
    (r"\.encoder_decoder_proj$", ".decoder.proj"),
    (r"^log_softmax\.mlp\.layer0$", "proj_out"),
)
_LLM_FILES = (
    (r"^language_model\.lm_head$", "lm_head"),
    (r"^language_model\.(?:model\.)+", "language_model."),  # transformers 5.17 writes it twice
    (r"^(language_model|audio_tower|multi_modal_projector)\.", r"model.\1."),
)

FAMILIES = (
    FamilyFacts(
        "whisper",
        ("whisper",),
        language="required",
        tasks=("transcribe", "translate"),
        leading_space=True,
        multilingual_from=51865,  # English-only models have one less
        windowed=True,
        audio_context=True,
        beams=True,
        spectrogram=(2, 1),
    ),
    FamilyFacts(
        "moonshine",
        ("moonshine",),
        frames_per_second=41.7,
        attention=("q_proj", "k_proj", "v_proj", "o_proj"),
        beams=True,
    ),
    FamilyFacts(
        "moonshine_streaming",
        ("moonshine_streaming",),
        attention=("q_proj", "k_proj", "v_proj", "o_proj"),
        beams=True,
    ),
    FamilyFacts(
        "seq2seq",
        ("speech_to_text", "speecht5", "speech-encoder-decoder"),
        attention=("q_proj", "k_proj", "v_proj", "out_proj", "query", "key", "value"),
        mlp=("fc1", "fc2", "intermediate_dense", "output_dense"),
        beams=True,
        spectrogram=(1, 2),
    ),
    FamilyFacts(
        "ctc",
        (
            "wav2vec2",
            "wav2vec2-bert",
            "wav2vec2-conformer",
            "hubert",
            "data2vec-audio",
            "unispeech",
            "unispeech-sat",
            "parakeet_ctc",
        ),
        loader="AutoModelForCTC",
        heads=("lm_head", "ctc_head"),
        blank=True,
        processors=("AutoProcessor", "Wav2Vec2Processor"),  # one with a language model needs pyctcdecode
        unused=("masked_spec_embed",),  # of SpecAugment in pre-training; wav2vec2-base-960h has none
        attention=(
            "q_proj",
            "k_proj",
            "v_proj",
            "out_proj",
            "o_proj",
            "linear_q",
            "linear_k",
            "linear_v",
            "linear_out",
        ),
        mlp=("intermediate_dense", "output_dense", "linear1", "linear2"),
        decoder=None,
        default_sites="encoder",
        language="single",
        spectrogram=(1, 2),
    ),
    FamilyFacts(
        "parakeet_tdt",
        ("parakeet_tdt",),
        loader="AutoModelForTDT",
        heads=("head",),
        attention=("q_proj", "k_proj", "v_proj", "o_proj"),
        mlp=("linear1", "linear2"),
        decoder=r"(.*\.)?(decoder|joint)\.",
        default_sites="encoder",
        spectrogram=(1, 2),
        divergence=False,
    ),
    FamilyFacts(
        "qwen3_asr",
        ("qwen3_asr",),
        frames_per_second=12.5,
        languages=tuple(_QWEN.split()),
        chat_template=True,
        **_TEXT_DECODER,
    ),
    FamilyFacts(
        "cohere_asr",
        ("cohere_asr",),
        languages=tuple(_COHERE.split()),
        control=("<|startofcontext|>", "<|startoftranscript|>", "<|emo:undefined|>", "<|{language}|>", "<|pnc|>"),
        renamed=_COHERE_FILES,
        **_FAST_CONFORMER,
    ),
    FamilyFacts(
        "canary",
        ("canary",),
        languages=tuple(_CANARY.split()),
        chat_template=True,
        control=("<|startofcontext|>", "<|startoftranscript|>", "<|{language}|>", "<|pnc|>"),
        **_FAST_CONFORMER,
    ),
    FamilyFacts(
        "voxtral",
        ("voxtral",),
        languages=tuple(_ISO_639_1.split()),
        control=("<s>", "[INST]", "[BEGIN_AUDIO]", "[/INST]", "[TRANSCRIBE]"),
        renamed=_LLM_FILES,
        windowed=True,
        **_TEXT_DECODER,
    ),
    FamilyFacts(
        "glm_asr",
        ("glmasr",),
        renamed=_LLM_FILES,
        chat_template=True,
        windowed=True,
        **_TEXT_DECODER | {"language": "refused"},
    ),
)

HEAR_SAMPLES = frozenset(
    {"wav2vec2", "wav2vec2-conformer", "wavlm", "hubert", "data2vec-audio", "unispeech", "unispeech-sat", "speecht5"}
)
"""Values of `model_type` whose encoder hears samples."""
COMPOSED = frozenset({"speech-encoder-decoder"})
"""Values of `model_type` that say nothing of special tokens by themselves: the model's files must."""

UNTRAINABLE = {
    "wavlm": "its attention reads the weights of its layers past them, so that an adapter on them would change nothing",
}
"""Why a model is of no family, where transformers can load it."""


def family_of(model_type: object) -> FamilyFacts | None:
    """The family of a `model_type`; None: it cannot be trained here."""
    return next((facts for facts in FAMILIES if model_type in facts.model_types), None)


def refusal(model_type: object) -> str:
    """What to say of a model whose `model_type` belongs to no family."""
    known = ", ".join(model_type for facts in FAMILIES for model_type in facts.model_types)
    named = f"model_type {model_type}" if isinstance(model_type, str) else "no model_type"
    why = f" ({UNTRAINABLE[model_type]})" if isinstance(model_type, str) and model_type in UNTRAINABLE else ""
    return f"its config.json names {named}, which cannot be fine-tuned here{why}; what can be: {known}"


OTHER_FORMS = (
    ("thinker_config", "", "it is in the form of the package qwen-asr: take its conversion, whose name ends in -hf"),
    ("architectures", "ForTokenClassification", "it aligns given words and writes none"),
)
"""Key of config.json and what its value holds where a model of a known model_type is yet another one, and which."""


def why_not(config: Mapping[str, object]) -> str | None:
    """Why a model cannot be fine-tuned here, by its config.json; None: nothing there is against it."""
    model_type = config.get("model_type")
    if family_of(model_type) is None:
        return refusal(model_type)
    for key, held, what in OTHER_FORMS:
        if key in config and held in str(config[key]):
            return f"its config.json has {key}{f' = {config[key]}' if held else ''}: {what}"
    return None


def known_languages(
    facts: FamilyFacts, generation: Mapping[str, object], vocabulary: Mapping[str, object] | None = None
) -> tuple[str, ...]:
    """Codes of the languages that a model can be told, by its files; none: it takes no language.

    `generation`: generation_config.json; `vocabulary`: vocab.json, which a family with a single language needs.
    """
    if facts.language == "refused" or facts.languages:
        return facts.languages
    if facts.language == "single":
        units = vocabulary or {}
        return tuple(sorted(units)) if units and all(isinstance(each, Mapping) for each in units.values()) else ()
    listed = generation.get("lang_to_id")
    return tuple(sorted(str(name).strip("<|>") for name in listed)) if isinstance(listed, dict) else ()


def unlisted_languages(
    facts: FamilyFacts, config: Mapping[str, object], generation: Mapping[str, object], own: object
) -> str | None:
    """What is wrong when a model knows several languages and its files do not say how it is told them; None: nothing.

    `generation`: generation_config.json; `own`: the language that its tokenizer was set up for, if any.
    """
    if facts.multilingual_from is None or facts.language == "refused":
        return None
    mend = "take that file from the model's current revision"
    if not generation.get("lang_to_id"):
        units = config.get("vocab_size")
        if own is not None or not isinstance(units, int) or units < facts.multilingual_from:
            return None
        return (
            "model.id: this model knows several languages and its generation_config.json lists none (lang_to_id), "
            f"so that it cannot be told what is spoken: {mend}"
        )
    missing = [key for key in ("task_to_id", "no_timestamps_token_id") if not generation.get(key)]
    if missing:
        return f"model.id: its generation_config.json lists languages and lacks {' and '.join(missing)}: {mend}"
    return None


def told_clip_by_clip(facts: FamilyFacts, config: Mapping[str, object], known: Collection[str]) -> bool:
    """Whether a model is told what is spoken in each clip, so that a manifest's field `language` changes results.

    `known`: the codes that its files list; where they are not all here, its vocabulary tells.
    """
    if facts.language not in ("required", "optional"):
        return False
    units = config.get("vocab_size")
    several = facts.multilingual_from is not None and isinstance(units, int) and units >= facts.multilingual_from
    return several or bool(known)


LANGUAGE_MISSING = "model.language: missing, and this model has a vocabulary for each language, such as deu"
"""What to say where none of them was chosen."""


def no_weights_of(language: str) -> str:
    """What to say where a model that has weights for each language lacks those of one."""
    return f"model.language: no weights of {language!r}: the model folder needs adapter.{language}.safetensors"


def no_token(key: str) -> str:
    """What to say of a model whose files do not say which token begins or ends a text."""
    return f"no {key} in its generation_config.json or config.json: write the tokenizer's there"


def wrong_blank(said: object, units: object, blank: object) -> str | None:
    """What is wrong when config.json and tokenizer do not name one blank, which is one of the units; None: nothing."""
    if isinstance(blank, int) and blank == said and (not isinstance(units, int) or blank < units):
        return None
    return (
        f"CTC model: pad_token_id is {said} in config.json (of {units} units) and {blank} in the tokenizer; "
        "both must name the blank"
    )


def wrong_language(  # noqa: PLR0911 - one thing that may be wrong after the other
    facts: FamilyFacts,
    known: Collection[str],
    language: str | None,
    task: str | None,
    clips: Iterable[str | None] = (None,),
) -> str | None:
    """What is wrong with `model.language` and `model.task`; None: nothing. `clips`: the languages that clips name."""
    if not known:
        key, value = ("language", language) if language is not None else ("task", task)
        return None if value is None else f"model.{key}: this model takes no {key}: remove {key} = {value!r}"
    more = f", … ({len(known)} in all)" if len(known) > LANGUAGES_SHOWN else ""
    choices = f"give one of {', '.join(list(known)[:LANGUAGES_SHOWN])}{more}"
    if language is not None and language not in known:
        return f"model.language: {language!r} is no language of this model: {choices}"
    if task is not None and task not in facts.tasks:
        return f"model.task: {task!r} is no task of this model: {_one_of(facts.tasks)}"
    named = set(clips)
    spoken = sorted(one for one in named if one is not None)
    other = [one for one in spoken if one not in known]
    fields = "the field language of the manifests"
    # a single language may be named by another code: the model is told that of the plan
    if facts.language == "single":
        mixed = len(spoken) > 1
        return f"{fields}: {spoken[0]!r} and {spoken[1]!r}: this model is told one for all clips" if mixed else None
    if other:
        return f"{fields}: {other[0]!r} is no language of this model: {choices}"
    if facts.language == "required" and language is None and None in named:
        return f"model.language: missing, and this model is told what is spoken: {choices}"
    return None


def _one_of(choices: Collection[str]) -> str:
    return f"give one of {', '.join(choices)}" if choices else "remove it"


def heard_as(facts: FamilyFacts, config: Mapping[str, object]) -> tuple[int, int] | None:
    """Which axes of its features are time and frequency in a model with this config.json; None: it hears samples."""
    encoder = config.get("encoder")
    kinds = {config.get("model_type"), encoder.get("model_type") if isinstance(encoder, Mapping) else None}
    return None if kinds & HEAR_SAMPLES else facts.spectrogram


def cannot(
    facts: FamilyFacts,
    train: TrainSettings,
    config: Mapping[str, object] | None = None,
    *,
    audio_context: float | None = None,
) -> Iterator[str]:
    """What settings ask of a family, or of its model with this config.json, that it cannot do, one sentence each."""
    if audio_context is not None and not facts.audio_context:
        yield no_audio_context(facts)
    if train.beams > 1 and not facts.beams:
        able = ", ".join(one.name for one in FAMILIES if one.beams)
        yield f"gate.beams: {facts.name} models are decoded greedily; set it to 1, which is the default (beams: {able})"
    if (train.augment.time_masks or train.augment.feature_masks) and heard_as(facts, config or {}) is None:
        yield nothing_to_mask(facts)
    if train.kl > 0 and not facts.divergence:
        yield no_divergence(facts)


def no_audio_context(facts: FamilyFacts) -> str:
    """What to say of `model.audio_context` for a family that cannot hear less than it does."""
    able = ", ".join(one.name for one in FAMILIES if one.audio_context)
    return f"model.audio_context: {facts.name} models cannot hear a part of a window; leave it out ({able} may)"


def no_divergence(facts: FamilyFacts) -> str:
    """What to say of `train.kl` for a transducer."""
    why = "write units and durations on many ways through a clip, and have no one distribution to compare at each place"
    return f"train.kl: {facts.name} models {why}; set it to 0, which is the default"


def nothing_to_mask(facts: FamilyFacts) -> str:
    """What to say of masks for a model that hears samples."""
    able = ", ".join(one.name for one in FAMILIES if one.spectrogram is not None)
    keys = "train.augment.time_masks, feature_masks"
    return f"{keys}: this {facts.name} model hears samples and has no spectrogram to mask; leave them at 0 ({able} may)"
