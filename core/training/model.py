"""A speech recogniser of any family that transformers loads as encoder–decoder, behind one small interface.

What differs between families (features, decoder prefix, token caps, length limits) is decided here and nowhere else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.audio.samples import SAMPLE_RATE_HZ
from core.errors import ModelError
from core.plan.fits import model_seconds
from core.runs.hub import is_hub_id
from core.system.files import folder_problem, read_bytes
from core.training.decode import Vocabulary
from core.training.determinism import steady_kernels
from core.training.padding import make_padding_invariant

Samples = NDArray[np.float32]

MOONSHINE_VOCABULARY = 32768
MOONSHINE_TOKENS_PER_SECOND = 13.0
"""Its authors' limit for the scripts that take most tokens of its 32k vocabulary (6.5 for Latin, by its model card)."""
TOKENS_PER_SECOND = 40.0
"""For other vocabularies: no speech has more characters, 30 letters and the spaces of 8 words; each takes one token."""
BYTES_OF_A_CHARACTER = 3
"""Of most scripts in UTF-8: tokens that one character may take in a multilingual vocabulary of bytes."""
EXTRA_TOKENS = 2
SCORING_PRECISION = "fp32"
"""Of every score, whatever the training steps compute in. In bf16 a word in some hundreds depends on the kernels, which
differ between a batch of one and a batch of many, so that no transcript could be relied on to be the same again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model can hear and say at most. By the model alone."""

    tokens_per_second: float
    """More are no transcript of speech, but a model that repeats itself."""
    max_tokens: int
    """Positions of the decoder, prefix and EOS not counted."""
    max_seconds: float
    """Longest clip in one piece; longer audio is cut at pauses."""

    def tokens(self, samples: int) -> int:
        """The cap for a clip of so many samples at 16 kHz."""
        seconds = samples / SAMPLE_RATE_HZ
        return max(1, min(self.max_tokens, int(self.tokens_per_second * seconds) + EXTRA_TOKENS))


@dataclass(slots=True)
class SpeechModel:
    """A loaded model with its processor. `network` is a transformers model or a peft model around one."""

    network: Any
    processor: Any
    family: str
    """transformers' model_type, e.g. `moonshine`, `whisper`."""
    vocabulary: Vocabulary
    limits: Limits
    device: torch.device
    precision: str
    """fp32 or bf16 (autocast over fp32 weights)."""

    def for_scoring(self) -> SpeechModel:
        """The same model, to be evaluated."""
        return replace(self, precision=SCORING_PRECISION)

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    def autocast(self) -> Any:
        """The precision as a context manager."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def allowing(self, tokens: Iterable[int]) -> SpeechModel:
        """The same model, that may write those of `tokens` which its generation config bans."""
        used, vocabulary = set(tokens), self.vocabulary
        lifted = tuple(sorted({*vocabulary.lifted, *used.intersection(vocabulary.suppressed)}))
        suppressed = tuple(token for token in vocabulary.suppressed if token not in used)
        return replace(self, vocabulary=replace(vocabulary, suppressed=suppressed, lifted=lifted))

    def label_ids(self, text: str) -> list[int]:
        """Target tokens of a transcript, ending in EOS, without decoder start tokens."""
        # a transcript that spells a special token means its letters, never the end of the text
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [*ids, self.vocabulary.eos[0]]

    def text(self, ids: Sequence[int]) -> str:
        """The transcript that token ids spell."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """Model inputs for normalised 16 kHz clips, each (samples,): right-padded with zeros, with a sample mask."""
        if self.family == "moonshine":
            return self._raw(clips, multiple=1, minimum=1024)
        if self.family == "moonshine_streaming":
            # whole frames of 5 ms, which is what its own processor pads to
            return self._raw(clips, multiple=80, minimum=1280)
        extractor = self.processor.feature_extractor
        batch = extractor(
            list(clips),
            sampling_rate=SAMPLE_RATE_HZ,
            return_tensors="pt",
            return_attention_mask=True,
            **({} if self.family == "whisper" else {"padding": True}),
        )
        names = ["input_features" if "input_features" in batch else "input_values"]
        if self.family != "whisper" and "attention_mask" in batch:
            names.append("attention_mask")
        return {name: batch[name].to(self.device) for name in names}

    def _raw(self, clips: Sequence[Samples], multiple: int, minimum: int) -> dict[str, Tensor]:
        lengths = [max(minimum, -(-len(clip) // multiple) * multiple) for clip in clips]
        values = torch.zeros(len(clips), max(lengths))
        mask = torch.zeros(len(clips), max(lengths), dtype=torch.long)
        for row, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
            values[row, : len(clip)] = torch.from_numpy(np.ascontiguousarray(clip))
            mask[row, :length] = 1
        return {"input_values": values.to(self.device), "attention_mask": mask.to(self.device)}

    def encode(self, features: dict[str, Tensor]) -> Any:
        """Encoder outputs for `features`."""
        return self.network.get_encoder()(**features, return_dict=True)


def choose_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_given_gpu(device: torch.device) -> None:
    """Raise ModelError when the queue gave this process a GPU and PyTorch cannot use it.

    It would train on the CPU instead, a hundred times slower, and nobody would be told.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if given.startswith(("GPU-", "MIG-")) and device.type == "cpu" and torch.version.cuda is not None:
        raise ModelError(
            f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) cannot use {given}, which this run was given; "
            "the driver may be too old for it: take a newer driver or a PyTorch that it can run, or leave "
            "CUDA_VISIBLE_DEVICES empty to train on the CPU"
        )


def choose_precision(asked: str, device: torch.device) -> str:
    """`auto` is bf16 autocast where the device computes in it, else fp32."""
    if asked == "auto":
        # older GPUs only emulate bf16, which is slower than fp32
        gains = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if gains else "fp32"
    return asked


def load_model(
    name: str, revision: str | None = None, *, device: torch.device | None = None, precision: str = "auto"
) -> SpeechModel:
    """Load a hub id or a folder in hub format: safetensors only, never code from the repository.

    Raises ModelError with what is missing or does not fit.
    """
    _check_name(name)
    device = device or choose_device()
    steady_kernels()
    network = _load_network(name, revision)
    processor: Any
    try:
        processor = _pretrained("AutoProcessor", name, revision)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever json, tokenizers and the feature extractors raise for a broken file
        processor, reason = None, one_line(error)
    else:
        reason = "its processor lacks a tokenizer or a feature extractor"
    if processor is None or not hasattr(processor, "tokenizer") or not hasattr(processor, "feature_extractor"):
        raise ModelError(
            f"model {name}: no usable processor ({reason}); the folder needs preprocessor_config.json or "
            "processor_config.json, and tokenizer.json"
        )
    network.eval().requires_grad_(False).to(device)
    make_padding_invariant(network)
    return SpeechModel(
        network=network,
        processor=processor,
        family=str(network.config.model_type),
        vocabulary=_vocabulary(network, processor),
        limits=_limits(network, processor),
        device=device,
        precision=choose_precision(precision, device),
    )


def _load_network(name: str, revision: str | None) -> Any:
    """The network with all its weights from safetensors, in fp32. Raises ModelError."""
    try:
        network, found = _pretrained(
            "AutoModelForSpeechSeq2Seq",
            name,
            revision,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever json, safetensors, torch and transformers raise for a broken file
        raise ModelError(
            f"model {name}: cannot be loaded as an encoder–decoder speech model ({one_line(error)}); "
            "give a folder or hub id with config.json and model.safetensors of such a model"
        ) from error
    missing = sorted(found["missing_keys"])
    if missing:
        # transformers would fill them with random numbers
        raise ModelError(
            f"model {name}: {len(missing)} of its weights are not in its safetensors files, {missing[0]} for one; "
            "config.json and the weights are not of one model: save or download it again"
        )
    return network


def _pretrained(kind: str, name: str, revision: str | None, **more: Any) -> Any:
    """`transformers.<kind>.from_pretrained`, without bars and reports: what they say is checked or raised here."""
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return getattr(transformers, kind).from_pretrained(name, revision=revision, trust_remote_code=False, **more)
    finally:
        logging.set_verbosity(verbosity)


def _check_name(name: str) -> None:
    """Raise ModelError for a folder that holds no model, or a name that is neither a folder nor a hub id."""
    folder = Path(name)
    if not folder.is_dir():
        if not is_hub_id(name):
            raise ModelError(
                f"model {name}: no such folder; give a folder in hub format or a hub id (organisation/name)"
            )
        return
    if problem := folder_problem(folder):
        raise ModelError(f"model {problem}")
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {folder}: no config.json; give a folder in hub format")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"model {folder}: no *.safetensors; weights load from safetensors only: "
            "convert the model with save_pretrained(..., safe_serialization=True)"
        )
    try:
        json.loads(read_bytes(folder / "config.json", follow=True))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model {folder}: config.json is not JSON ({error})") from error


def one_line(error: BaseException) -> str:
    """What a library said, short enough to stand inside a sentence."""
    text = " ".join(str(error).split())
    return (text if len(text) <= 200 else f"{text[:200]}…") or type(error).__name__


def _vocabulary(network: Any, processor: Any) -> Vocabulary:
    config, tokenizer = network.config, processor.tokenizer
    generation = network.generation_config
    start = generation.decoder_start_token_id
    if start is None:
        start = config.decoder_start_token_id
    prefix = (int(start),)
    if config.model_type == "whisper":
        # language and task tokens as the tokenizer was set up; no timestamps
        special = [i for i in getattr(tokenizer, "prefix_tokens", []) if i is not None]
        prefix = tuple(special) if special and special[0] == start else prefix
    eos = generation.eos_token_id if generation.eos_token_id is not None else config.eos_token_id
    every_eos = tuple(eos) if isinstance(eos, (list, tuple)) else (int(eos),)
    pad = config.pad_token_id if config.pad_token_id is not None else every_eos[0]
    size = network.get_output_embeddings().weight.shape[0]
    return Vocabulary(
        prefix=prefix,
        eos=every_eos,
        pad=int(pad),
        suppressed=tuple(i for i in (generation.suppress_tokens or ()) if 0 <= i < size),
        suppressed_first=tuple(i for i in (generation.begin_suppress_tokens or ()) if 0 <= i < size),
    )


def _limits(network: Any, processor: Any) -> Limits:
    config = network.config
    positions = getattr(config, "max_target_positions", None) or getattr(config, "max_position_embeddings", None) or 448
    family = config.model_type
    rate = _tokens_per_second(network)
    seconds = model_seconds(str(family), getattr(processor.feature_extractor, "chunk_length", None) or 30)
    prefix = len(_vocabulary(network, processor).prefix)
    return Limits(rate, max_tokens=int(positions) - prefix - 1, max_seconds=seconds)


def _tokens_per_second(network: Any) -> float:
    """What no transcript of speech needs, by the model alone. The cap ends a model that repeats itself, nothing else:
    by the training data it would cut evaluation speech that is faster than theirs, alike before and after training."""
    config = network.config
    if config.model_type.startswith("moonshine") and config.vocab_size == MOONSHINE_VOCABULARY:
        return MOONSHINE_TOKENS_PER_SECOND
    multilingual = bool(getattr(network.generation_config, "is_multilingual", False))
    return TOKENS_PER_SECOND * (BYTES_OF_A_CHARACTER if multilingual else 1)
