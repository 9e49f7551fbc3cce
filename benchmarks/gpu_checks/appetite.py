"""How much memory a training step takes on this GPU, by its seconds of audio.

    python -m benchmarks.gpu_checks.appetite MODEL BYTES

Finds the batch whose step takes about BYTES, and prints one JSON object: its `seconds`, the `peak` bytes that PyTorch
reserves for it and for `half` of it, and the `context` bytes that the process takes beside them.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

from core.audio.samples import SAMPLE_RATE_HZ
from core.plan.schema import AdapterSettings
from core.queue.gpu.nvml import NvmlReader
from core.training.adapter import attach
from core.training.families.base import SpeechModel
from core.training.model import load_model

CLIP_S = 3.0
"""About the length of the embedded speech's clips."""
_FIRST_S = 600.0
_LABEL = [5] * 20


def step(speech: SpeechModel, seconds: float) -> int:
    """The bytes that are reserved at most for a micro-batch of so many seconds."""
    clips = [np.full(int(CLIP_S * SAMPLE_RATE_HZ), 0.05, dtype=np.float32)] * max(1, round(seconds / CLIP_S))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    features = speech.features(clips)
    with speech.autocast():
        loss = speech.summed_loss(speech.encode(features), [_LABEL] * len(clips))
    (loss / (len(_LABEL) * len(clips))).backward()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    return torch.cuda.max_memory_reserved()


def main() -> int:
    """Two probes to learn the slope, then the batch itself and its half."""
    model, wanted = sys.argv[1], int(sys.argv[2])
    free = NvmlReader().read().gpus[0].free or 0
    speech = load_model(model)
    speech = attach(speech, AdapterSettings(rank=8, dropout=0.1, target_modules=("q_proj", "v_proj", "fc1")), seed=0)
    speech.network.train()
    one, two = (step(speech, seconds) for seconds in (_FIRST_S, 2 * _FIRST_S))
    seconds = round(2 * _FIRST_S + (wanted - two) / max(1, two - one) * _FIRST_S)
    peak, half = step(speech, seconds), step(speech, seconds / 2)
    torch.cuda.empty_cache()
    context = free - (NvmlReader().read().gpus[0].free or 0) - torch.cuda.memory_reserved()
    print(json.dumps({"seconds": seconds, "peak": peak, "half": half, "context": context}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
