"""Tiny random speech language models and prompted encoder–decoders of the true architectures, in hub format."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from training_kit import quiet_transformers

from core.plan.families import family_of

Samples = NDArray[np.float32]
QWEN_TEMPLATE = """{%- set said = namespace(system='') -%}
{%- for turn in messages if turn.role == 'system' -%}
  {%- for part in turn.content -%}{%- set said.system = said.system + part.text -%}{%- endfor -%}
{%- endfor -%}
{{- '<|im_start|>system\\n' + said.system + '<|im_end|>\\n<|im_start|>user\\n' -}}
{%- for turn in messages if turn.role == 'user' -%}{{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- for turn in messages if turn.role == 'assistant' -%}
  {{- '<|im_start|>assistant\\n' -}}
  {%- for part in turn.content -%}{{- part.text -}}{%- endfor -%}
  {{- '<|im_end|>\\n' -}}
{%- endfor -%}"""

CANARY_TEMPLATE = """{%- for turn in messages -%}{%- for part in turn.content if part.type == 'text' -%}
{{- '<|startofcontext|><|startoftranscript|><|emo:undefined|>' -}}
{{- '<|' + part.source_language + '|><|' + part.target_language + '|>' -}}
{{- ('<|pnc|>' if part.punctuation else '<|nopnc|>') + '<|noitn|><|notimestamp|><|nodiarize|>' -}}
{%- endfor -%}{%- endfor -%}"""


def tiny_qwen3_asr(folder: Path) -> Path:
    """Qwen3-ASR, whose tokenizer has the bytes and the control tokens alone."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        AddedToken,
        Qwen2Tokenizer,
        Qwen3ASRConfig,
        Qwen3ASRFeatureExtractor,
        Qwen3ASRForConditionalGeneration,
        Qwen3ASRProcessor,
    )

    tokenizer = Qwen2Tokenizer(
        vocab={character: i for i, character in enumerate(sorted(ByteLevel.alphabet()))},
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={
            "audio_bos_token": "<|audio_start|>",
            "audio_token": "<|audio_pad|>",
            "audio_eos_token": "<|audio_end|>",
        },
    )
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True)], special_tokens=True)
    tokenizer.add_tokens([AddedToken("<asr_text>", special=False, normalized=False)])
    end, other_end, audio = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>", "<|audio_pad|>"])
    extractor = Qwen3ASRFeatureExtractor(feature_size=16)
    Qwen3ASRProcessor(extractor, tokenizer, chat_template=QWEN_TEMPLATE).save_pretrained(folder)
    quiet_transformers()
    torch.manual_seed(0)
    config = Qwen3ASRConfig(
        audio_config={
            "num_mel_bins": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "d_model": 32,
            "output_dim": 48,
            "downsample_hidden_size": 8,
        },
        text_config={"model_type": "qwen3", "vocab_size": len(tokenizer), "tie_word_embeddings": True, **TEXT_DECODER},
        audio_token_id=audio,
        pad_token_id=end,
        eos_token_id=[other_end, end],
    )
    Qwen3ASRForConditionalGeneration(config).save_pretrained(folder)
    return folder


TEXT_DECODER = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 1024,
    "initializer_range": 0.1,
}


def tiny_voxtral(folder: Path) -> Path:
    """Voxtral with windows of 4 s and a tekken vocabulary of the bytes and the control tokens."""
    from transformers import VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

    named = (
        "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS]"
    )
    named += (
        " [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"
    )
    known = dict(enumerate(named.split())) | {24: "[AUDIO]", 25: "[BEGIN_AUDIO]", 34: "[TRANSCRIBE]"}
    control = [known.get(i, f"<SPECIAL_{i}>") for i in range(40)]
    vocabulary = {
        "config": {
            "pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            "num_vocab_tokens": 256,
            "default_vocab_size": 256 + len(control),
            "default_num_special_tokens": len(control),
            "version": "v7",
        },
        "vocab": [
            {"rank": i, "token_bytes": base64.b64encode(bytes([i])).decode(), "token_str": None} for i in range(256)
        ],
        "special_tokens": [{"rank": i, "token_str": name, "is_control": True} for i, name in enumerate(control)],
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": 12.5,
            "chunk_length_s": 4.0,
            "audio_encoding_config": {"num_mel_bins": 16, "hop_length": 160, "window_size": 400},
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tekken.json").write_text(json.dumps(vocabulary))
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=4)
    described = {"processor_class": "VoxtralProcessor", **extractor.to_dict()}
    described.pop("mel_filters", None)
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    quiet_transformers()
    torch.manual_seed(0)
    config = VoxtralConfig(
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_mel_bins": 16,
            "max_source_positions": 200,
        },
        text_config={"model_type": "llama", "vocab_size": 256 + len(control), **TEXT_DECODER},
        audio_token_id=24,
    )
    VoxtralForConditionalGeneration(config).save_pretrained(folder)
    return folder


GLM_TEMPLATE = """{%- for turn in messages -%}{{- '<|' + turn.role + '|>\\n' -}}{%- for part in turn.content -%}
{%- if part.type == 'audio' -%}{{- '<|begin_of_audio|><|pad|><|end_of_audio|><|user|>\\n' -}}
{%- else -%}{{- part.text -}}{%- endif -%}
{%- endfor -%}{%- endfor -%}{{- '<|assistant|>\\n' -}}"""


def tiny_glm_asr(folder: Path) -> Path:
    """GLM-ASR with windows of 4 s, whose tokenizer has the bytes and the control tokens alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        GlmAsrConfig,
        GlmAsrForConditionalGeneration,
        GlmAsrProcessor,
        PreTrainedTokenizerFast,
        WhisperFeatureExtractor,
    )

    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(characters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    control = "<|endoftext|> <|user|> <|assistant|> <|observation|> <|begin_of_audio|> <|end_of_audio|> <|pad|>"
    made.add_special_tokens(control.split())
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=4)
    GlmAsrProcessor(extractor, tokenizer, chat_template=GLM_TEMPLATE).save_pretrained(folder)
    quiet_transformers()
    torch.manual_seed(0)
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|user|>", "<|observation|>"])
    config = GlmAsrConfig(
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 64,  # four places of the encoder are one of the prompt
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_mel_bins": 16,
        },
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), "eos_token_id": ends, **TEXT_DECODER},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
    )
    GlmAsrForConditionalGeneration(config).save_pretrained(folder)
    return folder


FAST_CONFORMER = {
    "model_type": "parakeet_encoder",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "subsampling_conv_channels": 8,
    "num_mel_bins": 16,
    "scale_input": False,
    "layerdrop": 0.0,
}


def _languages(model_type: str) -> tuple[str, ...]:
    facts = family_of(model_type)
    assert facts is not None
    return facts.languages


def prompt_tokenizer(languages: Iterable[str]) -> Any:
    """Letters behind the control tokens of Canary and Cohere-ASR, at their true ids, and those of `languages`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AddedToken, PreTrainedTokenizerFast

    control = ["<unk>", "<|nospeech|>", "<pad>", "<|endoftext|>", "<|startoftranscript|>", "<|pnc|>", "<|nopnc|>"]
    control += ["<|startofcontext|>", "<|itn|>", "<|noitn|>", "<|timestamp|>", "<|notimestamp|>", "<|diarize|>"]
    control += ["<|nodiarize|>", "<|spkchange|>", "<|audioseparator|>", "<|emo:undefined|>"]
    control += [f"<|{language}|>" for language in sorted(languages)]
    pieces = [*control, *"▁abcdefghijklmnopqrstuvwxyz'äöüß"]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftranscript|>",
        eos_token="<|endoftext|>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


def tiny_canary(folder: Path) -> Path:
    """Canary, whose chat template writes the nine tokens of its prompt."""
    from transformers import CanaryConfig, CanaryForConditionalGeneration, CanaryProcessor, ParakeetFeatureExtractor

    tokenizer = prompt_tokenizer(_languages("canary"))
    extractor = ParakeetFeatureExtractor(feature_size=16)
    CanaryProcessor(extractor, tokenizer, chat_template=CANARY_TEMPLATE).save_pretrained(folder)
    quiet_transformers()
    torch.manual_seed(0)
    config = CanaryConfig(
        vocab_size=len(tokenizer),
        encoder_config=FAST_CONFORMER,
        decoder_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 128,
        },
    )
    CanaryForConditionalGeneration(config).save_pretrained(folder)
    return folder


def tiny_cohere_asr(folder: Path) -> Path:
    """Cohere-ASR, whose config, as transformers writes it, names no start token: its processor does."""
    from transformers import (
        CohereAsrConfig,
        CohereAsrFeatureExtractor,
        CohereAsrForConditionalGeneration,
        CohereAsrProcessor,
    )

    tokenizer = prompt_tokenizer(_languages("cohere_asr"))
    CohereAsrProcessor(CohereAsrFeatureExtractor(feature_size=16), tokenizer).save_pretrained(folder)
    quiet_transformers()
    torch.manual_seed(0)
    config = CohereAsrConfig(
        vocab_size=len(tokenizer),
        encoder_config=FAST_CONFORMER,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    CohereAsrForConditionalGeneration(config).save_pretrained(folder)
    return folder


PROMPTED: dict[str, Callable[[Path], Path]] = {
    "qwen3_asr": tiny_qwen3_asr,
    "voxtral": tiny_voxtral,
    "canary": tiny_canary,
    "cohere_asr": tiny_cohere_asr,
}
"""By family: those that are told the language in a prompt."""
SPEECH_LLMS = ("qwen3_asr", "voxtral")


def own_inputs(speech: Any, clip: Samples, language: str = "de") -> dict[str, Any]:
    """What transformers' own processor makes of one clip."""
    processor = speech.processor
    if speech.family == "qwen3_asr":
        return dict(processor.apply_transcription_request(clip, language=language))
    if speech.family == "glm_asr":
        made = dict(processor.apply_transcription_request(clip))
        made.pop("num_audio_tokens", None)
        return made
    if speech.family == "canary":
        return dict(processor.apply_transcription_request(clip, source_language=language))
    if speech.family == "cohere_asr":
        made = dict(processor(clip, language=language, sampling_rate=16000))
        made.pop("audio_chunk_index")
        return made
    # its own needs mistral-common, which writes <s>[INST][BEGIN_AUDIO][AUDIO]…[/INST]lang:de[TRANSCRIBE]
    tokenizer = processor.tokenizer
    places = speech.network.config.audio_config.max_source_positions // 4
    words = ["<s>", "[INST]", "[BEGIN_AUDIO]", *["[AUDIO]"] * places, "[/INST]", *f"lang:{language}", "[TRANSCRIBE]"]
    features = processor.feature_extractor(clip, sampling_rate=16000, return_tensors="pt")["input_features"]
    return {"input_ids": torch.tensor([tokenizer.convert_tokens_to_ids(words)]), "input_features": features}


def own_loss(speech: Any, clip: Samples, text: str) -> float:
    """The sum that transformers' own loss is the mean of: its labels are the transcript alone."""
    targets = speech.targets(text)
    inputs, ids = own_inputs(speech, clip), torch.tensor([targets])
    prompt = "input_ids" if "input_ids" in inputs else "decoder_input_ids"
    whole = torch.cat([inputs[prompt], ids], dim=1)
    labels = whole.clone()
    labels[:, : inputs[prompt].shape[1]] = -100
    inputs.pop("attention_mask" if prompt == "input_ids" else "", None)
    if prompt == "decoder_input_ids":  # an encoder–decoder's labels stand where they are predicted
        whole, labels = whole[:, :-1], labels[:, 1:]
    with torch.no_grad():
        mean = speech.network(**inputs | {prompt: whole}, labels=labels).loss
    return float(mean) * len(targets)
