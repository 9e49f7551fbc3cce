"""CTranslate2: converted by its own converter, and heard through it; Whisper by faster-whisper, as it is served."""

from __future__ import annotations

import contextlib
import io
import tempfile
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ModelError
from core.export import hf
from core.export.serve import Recogniser, Request, Runtime, Samples
from core.export.source import Source, merged_model, model_type
from core.plan.exports import FLOAT32
from core.system.files import read_json
from core.training.model import one_line

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "generation_config.json",
    "vocab.json",
    "special_tokens_map.json",
)
"""Of the model folder, which its runtimes read beside the weights."""


def write(source: Source, folder: Path, precision: str) -> dict[str, Any]:
    """Merge, convert, quantise. ModelError where the converter cannot; OSError for the disk."""
    from ctranslate2.converters import TransformersConverter

    if model_type(source) == "wav2vec2":
        _check_norms(source)
    with tempfile.TemporaryDirectory(prefix="lora-cli-") as scratch:
        plain = Path(scratch) / "merged"
        hf.save(merged_model(source), plain, FLOAT32)
        files = [name for name in _FILES if (plain / name).is_file()]
        try:
            # it would tell of loading on stderr, and of layers that it is still to be given
            with contextlib.redirect_stderr(io.StringIO()):
                TransformersConverter(str(plain), copy_files=files).convert(
                    str(folder), quantization=precision, force=True
                )
        except OSError:
            raise
        except Exception as error:  # whatever transformers and ctranslate2 raise
            raise ModelError(f"ctranslate2 cannot convert this model ({one_line(error)}): take --to hf") from error
    return {"converter": f"ctranslate2 {version('ctranslate2')}"}


def _check_norms(source: Source) -> None:
    """CTranslate2 has wav2vec2 models of one kind: convolutions with bias and layer norm, a norm before each layer."""
    config, _ = read_json(Path(source.model) / "config.json", follow=True)
    if config is None:
        return  # of the hub: the converter says it
    wanted = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    other = [key for key, value in wanted.items() if config.get(key) != value]
    if other:
        raise ModelError(
            f"--to ct2: of wav2vec2 models CTranslate2 has those with {other[0]} = {wanted[other[0]]} in config.json, "
            f"such as wav2vec2-large-960h-lv60-self; this one has {config.get(other[0])}: take --to hf"
        )


def opened(request: Request) -> Recogniser:
    """The folder in its runtime."""
    config, _ = read_json(Path(request.folder) / "config.json")
    return _Whisper(request) if config is not None and "alignment_heads" in config else _Wav2Vec2(request)


def _device() -> str:
    import ctranslate2

    return "cuda" if ctranslate2.get_cuda_device_count() else "cpu"


class _Whisper:
    """faster-whisper, told what the adapter was judged with: language, no timestamps, no guesses at a temperature."""

    max_seconds = 30.0

    def __init__(self, request: Request) -> None:
        from faster_whisper import WhisperModel

        facts = request.facts
        self.model = WhisperModel(
            request.folder,
            device=_device(),
            compute_type="default",  # the export's own
            cpu_threads=facts.threads,
            local_files_only=True,
        )
        generation, _ = read_json(Path(request.folder) / "generation_config.json")
        banned = (generation or {}).get("suppress_tokens")
        self.language = facts.language or ("en" if not self.model.model.is_multilingual else None)
        self.options: dict[str, Any] = {
            "task": facts.task or "transcribe",
            "beam_size": facts.beams,
            "temperature": 0.0,
            "suppress_tokens": list(banned) if isinstance(banned, list) else [],
            "without_timestamps": True,
            "condition_on_previous_text": False,
            # a clip of an evaluation set is speech, and is transcribed whatever the model thinks of it
            "no_speech_threshold": None,
            "log_prob_threshold": None,
            "compression_ratio_threshold": None,
        }
        inner = self.model.model
        self.runtime = Runtime("faster-whisper", _versions(), inner.device, inner.compute_type)

    def text(self, clip: Samples, language: str | None) -> str:
        """Of all segments."""
        segments, _ = self.model.transcribe(clip, language=language or self.language, **self.options)
        return "".join(segment.text for segment in segments).strip()


class _Wav2Vec2:
    """CTranslate2's encoder and head; the most likely unit of each frame is taken as the family takes it."""

    max_seconds = 30.0

    def __init__(self, request: Request) -> None:
        import ctranslate2
        from transformers import Wav2Vec2Processor

        from core.training.families.ctc import Spelling

        self.model = ctranslate2.models.Wav2Vec2(request.folder, device=_device(), intra_threads=request.facts.threads)
        self.processor = Wav2Vec2Processor.from_pretrained(request.folder)
        self.spelling = Spelling(self.processor.tokenizer, len(self.processor.tokenizer))
        self.blank = self.processor.tokenizer.pad_token_id
        self.runtime = Runtime("ctranslate2", version("ctranslate2"), self.model.device, self.model.compute_type)

    def text(self, clip: Samples, language: str | None) -> str:
        """Of one clip alone."""
        import ctranslate2

        heard = self.processor.feature_extractor(clip, sampling_rate=16_000, return_tensors="np")["input_values"]
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(heard[:, None, :], dtype=np.float32))
        logits = np.array(self.model.encode(view, to_cpu=True))[0]
        units = [unit for unit, _ in groupby(logits.argmax(-1).tolist()) if unit != self.blank]
        return self.spelling.text(units)


def _versions() -> str:
    return f"{version('faster-whisper')}, ctranslate2 {version('ctranslate2')}"
