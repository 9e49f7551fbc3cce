"""Kernels and seeds that make a training step repeatable and let two processes score alike.

`train.deterministic` is for training steps only: a backward pass adds up with atomics, evaluation does not, and
`lora-cli` must decode with the same kernels as the trainer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.errors import ModelError

_WORKSPACES = (":4096:8", ":16:8")
"""Of cuBLAS; without a fixed one results may vary (its "Results reproducibility"), and torch takes no others."""


def prepare_cuda() -> None:
    """Before CUDA is initialised: cuBLAS reads this once. Child processes inherit it."""
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in _WORKSPACES:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = _WORKSPACES[0]


def steady_kernels() -> None:
    """For every process that computes with a model: convolutions by the same kernels each time, and fp32 that is fp32.

    cuDNN takes TF32, with 10 bits of mantissa, for fp32 unless it is told not to; NVIDIA's containers switch it on for
    cuBLAS too.
    """
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def seed_step(seed: int, step: int, micro: int = 0) -> None:
    """Make all that a micro-batch of a step draws a function of these three: the same on resume, on whatever device.

    transformers draws SpecAugment's masks (Whisper's `apply_spec_augment`) with NumPy, the rest with torch.
    """
    number = seed * 1_000_003 + step
    if micro:
        number = int(np.random.SeedSequence([seed, step, micro]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    torch.manual_seed(number)
    np.random.seed(number % 2**32)


@contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """Within the block, torch takes deterministic kernels only, and attention the one with a deterministic backward.

    ModelError when the model has an operation for which there is none.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except RuntimeError as error:
        if "deterministic" not in str(error) or isinstance(error, torch.OutOfMemoryError):
            raise
        raise ModelError(
            f"train.deterministic: the model has an operation without a deterministic kernel on this device "
            f"({str(error).split(';')[0].splitlines()[0]}); set it to false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)
