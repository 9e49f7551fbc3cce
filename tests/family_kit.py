"""Tiny random models of the true architectures, in hub format; nothing is downloaded.

At least one for each `model_type` of `core.plan.families`: `core/training/families/test_conformance.py` puts each of
them through the same tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ctc_kit import tiny_ctc, tiny_parakeet_tdt
from numpy.typing import NDArray
from tiny_prompted import PROMPTED, own_loss, tiny_glm_asr
from training_kit import RATE, digit_texts, quiet_transformers, tiny_moonshine, tiny_streaming, tiny_whisper

from core.training.pretrain import train_tokenizer

Samples = NDArray[np.float32]
SIZES = {"d_model": 32, **dict.fromkeys(("encoder_layers", "decoder_layers"), 1)}
SIZES |= dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
SIZES |= dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64)
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 2}
CONVOLUTIONS = {"conv_dim": (16, 16), "conv_stride": (20, 16), "conv_kernel": (40, 16), "num_feat_extract_layers": 2}


@dataclass(frozen=True, slots=True)
class Tiny:
    """How one is made, and what its loss is compared with."""

    model_type: str
    build: Callable[[Path], Path]
    """Writes the model into an empty folder, and gives that."""
    reference: Callable[[Any, Samples, str], float]
    """(speech, clip, text) → the summed loss in nats, by transformers or torch and not by the family's own code."""
    language: str | None = None
    """That it is told."""


def whole_forward(speech: Any, clip: Samples, text: str) -> float:
    """Cross-entropy by hand over one forward of the whole encoder–decoder, which encodes by itself."""
    ids, prompt = speech.targets(text), list(speech.vocabulary.prefix)
    inputs = torch.tensor([[*prompt, *ids[:-1]]])
    with torch.no_grad():
        logits = speech.network(**speech.features([clip]), decoder_input_ids=inputs, use_cache=False).logits[0]
    chances = logits[len(prompt) - 1 :].double().log_softmax(-1)
    return -float(chances[range(len(ids)), ids].sum())


def tokenizer() -> Any:
    """Of digits, as fast tokenizers have it: its pad is 0."""
    made = train_tokenizer(digit_texts(60, 0), 60)
    made.pad_token = made.unk_token
    return made


def written(folder: Path, network: Any, processor: Any) -> Path:
    """The folder, with both in it."""
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def speech_to_text(folder: Path) -> Path:
    """Log-mel features with mean and variance of the clip, two convolutions, absolute positions."""
    from transformers import (
        Speech2TextConfig,
        Speech2TextFeatureExtractor,
        Speech2TextForConditionalGeneration,
        Speech2TextProcessor,
    )

    quiet_transformers()
    torch.manual_seed(0)
    words = tokenizer()
    more = {"conv_channels": 32, "num_mel_bins": 24, "input_feat_per_channel": 24, "max_target_positions": 64}
    network = Speech2TextForConditionalGeneration(Speech2TextConfig(vocab_size=len(words), **SIZES, **IDS, **more))
    extractor = Speech2TextFeatureExtractor(feature_size=24, num_mel_bins=24)
    return written(folder, network, Speech2TextProcessor(extractor, words))


def speecht5(folder: Path) -> Path:
    """Raw samples through convolutions, the first with a norm over time."""
    from transformers import SpeechT5Config, SpeechT5FeatureExtractor, SpeechT5ForSpeechToText, SpeechT5Processor

    quiet_transformers()
    torch.manual_seed(0)
    words = tokenizer()
    sizes = {name: value for name, value in SIZES.items() if name != "d_model"} | {"hidden_size": 32}
    more = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "max_text_positions": 64}
    network = SpeechT5ForSpeechToText(SpeechT5Config(vocab_size=len(words), **sizes, **IDS, **more, **CONVOLUTIONS))
    return written(folder, network, SpeechT5Processor(SpeechT5FeatureExtractor(), words))


def encoder_decoder(folder: Path) -> Path:
    """A wav2vec2 with a group norm over time and no mask, and a decoder with cross-attention."""
    from transformers import (
        BertConfig,
        SpeechEncoderDecoderConfig,
        SpeechEncoderDecoderModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Processor,
    )

    quiet_transformers()
    torch.manual_seed(0)
    words = tokenizer()
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    encoder = Wav2Vec2Config(
        **sizes, **CONVOLUTIONS, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, vocab_size=4
    )
    decoder = BertConfig(
        **sizes, vocab_size=len(words), is_decoder=True, add_cross_attention=True, max_position_embeddings=64
    )
    config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder, **IDS)
    network = SpeechEncoderDecoderModel(config)
    for name, value in IDS.items():
        setattr(network.generation_config, name, value)
    extractor = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=RATE, do_normalize=True)
    return written(folder, network, Wav2Vec2Processor(extractor, words))


def transformers_own(speech: Any, clip: Samples, text: str) -> float:
    """The loss that the plain network computes of labels, summed."""
    ids = torch.tensor([speech.targets(text)])
    speech.network.config.ctc_loss_reduction = "sum"
    with torch.no_grad():
        loss = speech.network(**speech.features([clip]), labels=ids).loss
    return float(loss)


def transducers_own(speech: Any, clip: Samples, text: str) -> float:
    """As `transformers_own`, of a network that is given the units before each, and gives a mean over them."""
    ids = speech.targets(text)
    before = torch.tensor([[speech.network.config.blank_token_id, *ids]])
    with torch.no_grad():
        found = speech.network(**speech.features([clip]), decoder_input_ids=before, labels=torch.tensor([ids]))
    return float(found.loss) * len(ids)


_OF_CTC = {
    "wav2vec2": "wav2vec2",
    "mms": "wav2vec2",
    "hubert": "hubert",
    "conformer": "wav2vec2-conformer",
    "data2vec": "data2vec-audio",
    "unispeech": "unispeech",
    "unispeech-sat": "unispeech-sat",
    "wav2vec2-bert": "wav2vec2-bert",
    "parakeet": "parakeet_ctc",
}
TINY = {
    **{name: Tiny(name, build, own_loss, "de") for name, build in PROMPTED.items()},
    **{
        f"ctc {kind}": Tiny(
            model_type, partial(tiny_ctc, kind=kind), transformers_own, "eng" if kind == "mms" else None
        )
        for kind, model_type in _OF_CTC.items()
    },
    "parakeet_tdt": Tiny("parakeet_tdt", tiny_parakeet_tdt, transducers_own),
    "glm_asr": Tiny("glmasr", tiny_glm_asr, own_loss),
    "moonshine": Tiny("moonshine", tiny_moonshine, whole_forward),
    "moonshine_streaming": Tiny("moonshine_streaming", tiny_streaming, whole_forward),
    "speech-encoder-decoder": Tiny("speech-encoder-decoder", encoder_decoder, whole_forward),
    "speech_to_text": Tiny("speech_to_text", speech_to_text, whole_forward),
    "speecht5": Tiny("speecht5", speecht5, whole_forward),
    "whisper": Tiny("whisper", partial(tiny_whisper, window_s=4), whole_forward),
}
