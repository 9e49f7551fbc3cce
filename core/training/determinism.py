"""`train.deterministic`: training steps whose bits do not depend on the order in which a GPU's threads finish.

Only the steps: a backward pass adds up with atomics, evaluation does not, and `lora-cli` must decode with the same
kernels as the trainer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.errors import ModelError

_WORKSPACE = ":4096:8"
"""Of cuBLAS; without a fixed one its results may vary (NVIDIA cuBLAS, "Results reproducibility")."""


def prepare_cuda() -> None:
    """Before CUDA is initialised: cuBLAS reads this once. Child processes inherit it."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _WORKSPACE)


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
