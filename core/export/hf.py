"""A plain model folder in hub format: safetensors, processor, generation config with the prompt that was judged."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import torch

from core.errors import ModelError
from core.export.serve import Request, as_judged, loaded
from core.export.source import Source, merged_model
from core.plan.exports import BFLOAT16, FLOAT16, FLOAT32
from core.training.families.base import SpeechModel
from core.training.model import one_line

_FULL = re.compile(rf"\(os error ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})\)")
"""How safetensors says it."""
_DTYPES = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16, FLOAT16: torch.float16}


def write(source: Source, folder: Path, precision: str) -> dict[str, Any]:
    """Write the adapter's merged model to `folder`. ModelError; OSError for the disk."""
    save(merged_model(source), folder, precision)
    return {}


def opened(request: Request) -> SpeechModel:
    """The folder alone, as plain transformers loads it."""
    return as_judged(loaded(request.folder, None, request.facts), request.facts)


def save(speech: SpeechModel, folder: Path, precision: str = FLOAT32) -> None:
    """Write a merged model to `folder`. Its network is not to be used afterwards: it has that precision's weights.

    ModelError where transformers cannot write it; OSError for the disk.
    """
    network, dtype = speech.network, _DTYPES[precision]
    _tell_prompt(speech)
    _part_what_was_shared(network)
    network.to(dtype)
    too_large = [name for name, weight in network.named_parameters() if not bool(weight.isfinite().all())]
    if too_large:
        raise ModelError(f"{too_large[0]}: has weights that {precision} cannot hold: take another precision")
    try:
        network.save_pretrained(folder)
        speech.processor.save_pretrained(folder)
        # beside processor_config.json, for programs that know no other file
        speech.processor.feature_extractor.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # whatever transformers and safetensors raise
        if _FULL.search(str(error)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise ModelError(f"{folder}: transformers cannot write this model ({one_line(error)})") from error


def _tell_prompt(speech: SpeechModel) -> None:
    """What `generate` is to begin with, may write and searches, as the adapter was judged."""
    generation = getattr(speech.network, "generation_config", None)
    if generation is None:
        return
    if speech.language is not None and getattr(generation, "lang_to_id", None):
        generation.language, generation.task = speech.language, speech.task or speech.facts.tasks[0]
        generation.forced_decoder_ids = None
    if speech.lifted and generation.suppress_tokens:
        generation.suppress_tokens = [i for i in generation.suppress_tokens if i not in set(speech.lifted)]
    if speech.beams > 1:
        generation.num_beams = speech.beams


def _part_what_was_shared(network: Any) -> None:
    """Where an adapter changed one of two layers that share their weights, both are kept, and the config says so."""
    shared = getattr(network, "all_tied_weights_keys", None) or {}
    parted = [one for one, other in shared.items() if network.get_parameter(one) is not network.get_parameter(other)]
    if parted:
        network.config.tie_word_embeddings = False
        network.all_tied_weights_keys = {one: other for one, other in shared.items() if one not in parted}
