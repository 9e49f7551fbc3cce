"""Tiny random models of the true architectures with CTC and transducer heads, in hub format; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training_kit import digit_texts, quiet_transformers

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    # wide enough for adapters to find something in what random weights make of a clip
    "initializer_range": 0.2,
}
MEL_ENCODER = ENCODER | {"num_mel_bins": 16, "subsampling_conv_channels": 8, "subsampling_factor": 4}
CTC_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2", {"feat_extract_norm": "group"}),
    "wav2vec2-layer": ("Wav2Vec2", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "wav2vec2-adapter": ("Wav2Vec2", {"feat_extract_norm": "layer", "add_adapter": True, "num_adapter_layers": 2}),
    "mms": ("Wav2Vec2", {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "adapter_attn_dim": 4}),
    "hubert": ("Hubert", {"feat_extract_norm": "group"}),
    "conformer": ("Wav2Vec2Conformer", {"feat_extract_norm": "layer"}),
    "data2vec": ("Data2VecAudio", {}),
    "unispeech": ("UniSpeech", {"feat_extract_norm": "group"}),
    "unispeech-sat": ("UniSpeechSat", {"feat_extract_norm": "group"}),
    "wav2vec2-bert": ("Wav2Vec2Bert", {"feature_projection_input_dim": 160}),
    "wav2vec2-bert-adapter": ("Wav2Vec2Bert", {"feature_projection_input_dim": 160, "add_adapter": True}),
    "parakeet": ("Parakeet", {}),
}
"""What a tiny CTC model may be: transformers' name and what else stands in its config."""


def tiny_ctc(folder: Path, kind: str = "wav2vec2") -> Path:
    """A random CTC model of a kind, in hub format: letters as units, or word pieces for Parakeet."""
    import torch
    import transformers
    from safetensors.torch import save_file

    quiet_transformers()
    torch.manual_seed(0)
    name, more = CTC_KINDS[kind]
    if name == "Parakeet":
        tokenizer = _parakeet_tokenizer()
        config = transformers.ParakeetCTCConfig(
            vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, encoder_config=MEL_ENCODER
        )
        processor: Any = transformers.ParakeetProcessor(_parakeet_extractor(), tokenizer)
    else:
        bert = name == "Wav2Vec2Bert"
        letters = LETTERS if bert else LETTERS.upper()
        languages = {"deu": letters + "Öß", "eng": letters, "fra": letters} if kind == "mms" else {}
        tokenizer = _letters(folder, letters, languages)
        waves = (
            {} if bert else {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
        )
        config = getattr(transformers, f"{name}Config")(
            vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=1, eos_token_id=2, **waves, **ENCODER | more
        )
        if bert:
            extractor: Any = transformers.SeamlessM4TFeatureExtractor(padding_value=0.0)
            processor = transformers.Wav2Vec2BertProcessor(extractor, tokenizer)
        else:
            # models with a group norm were trained without a mask, and their processors give none
            masked = more.get("feat_extract_norm") != "group"
            extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masked)
            processor = transformers.Wav2Vec2Processor(extractor, tokenizer)
    network = getattr(transformers, f"{name}ForCTC")(config)
    _clear_head(network.ctc_head if name == "Parakeet" else network.lm_head)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    if kind == "mms":
        german = {name: weight.detach() * 2 for name, weight in network._get_adapters().items()}
        for name in ("lm_head.weight", "lm_head.bias"):
            german[name] = torch.cat([german[name], german[name][-2:]])
        save_file(german, folder / "adapter.deu.safetensors")
    return folder


def tiny_parakeet_tdt(folder: Path) -> Path:
    """A random Parakeet-TDT, in hub format."""
    import torch
    import transformers

    quiet_transformers()
    torch.manual_seed(0)
    tokenizer = _parakeet_tokenizer()
    tokenizer.add_tokens(["<blank>"], special_tokens=True)
    blank = tokenizer.convert_tokens_to_ids("<blank>")
    config = transformers.ParakeetTDTConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        blank_token_id=blank,
        decoder_start_token_id=blank,
        decoder_hidden_size=24,
        num_decoder_layers=1,
        durations=[0, 1, 2],
        encoder_config=MEL_ENCODER,
    )
    network = transformers.ParakeetForTDT(config)
    _clear_head(network.joint.head)
    network.save_pretrained(folder)
    transformers.ParakeetProcessor(_parakeet_extractor(), tokenizer).save_pretrained(folder)
    return folder


def _clear_head(head: Any) -> None:
    """A frozen head that tells its inputs apart: as transformers makes them, all units are about as likely."""
    import torch

    torch.nn.init.normal_(head.weight)


def _letters(folder: Path, letters: str, languages: dict[str, str]) -> Any:
    """Letters as units, or those of each of `languages`, of which English is spoken first."""
    from transformers import Wav2Vec2CTCTokenizer

    def units(letters: str) -> dict[str, int]:
        return {unit: place for place, unit in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *letters])}

    vocabulary = folder / "vocab.json"
    each = {language: units(spoken) for language, spoken in languages.items()}
    vocabulary.write_text(json.dumps(each or units(letters)))
    return Wav2Vec2CTCTokenizer(str(vocabulary), target_lang="eng" if each else None)


def _parakeet_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import ParakeetTokenizer

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=60, special_tokens=["<unk>"], initial_alphabet=list(LETTERS), show_progress=False
    )
    tokenizer.train_from_iterator(digit_texts(60, 0), trainer)
    return ParakeetTokenizer(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")


def _parakeet_extractor() -> Any:
    from transformers import ParakeetFeatureExtractor

    try:
        return ParakeetFeatureExtractor(feature_size=16)
    except ImportError as error:  # older versions of transformers take their mel filters from librosa
        pytest.skip(" ".join(str(error).split()))
