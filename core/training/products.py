"""Products of matrices on x86 processors: by oneDNN, which torch brings beside MKL and takes for convolutions alone.

MKL keeps to half of the vector width of AMD's processors: there oneDNN computes an fp32 product of some hundred rows in
less than half the time (230 against 105 GFLOP/s on one core of an EPYC, forward and backward), and nowhere slower than
a few percent. What the two give differs in the last bits, as it does between numbers of rows.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

LEAST_ROWS = 16
"""Of fewer, MKL reads the weights once, and oneDNN would first put them in another order."""
LEAST_WORK = 2**20
"""Multiply-adds: what is less is done before oneDNN has found its kernel."""


KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "64"}
"""How many oneDNN keeps, and torch before it of what it asked oneDNN for.

A step or a batch has fewer. By default both keep 1,024, which are some 460 MiB more of a process.
"""


@cache
def available() -> bool:
    """Whether this torch can be asked for a product by oneDNN, and this processor is one that gains by it."""
    # both are read once; a kernel is of one shape, and every batch brings new shapes
    for name, count in KERNELS.items():
        os.environ.setdefault(name, count)
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return _by_onednn(torch.ones(2, 3), torch.ones(4, 3), None).tolist() == [[3.0] * 4] * 2
    except (AttributeError, RuntimeError):  # a torch without oneDNN, or whose operation has other arguments
        return False


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.linear`: rows (…, in), weight (out, in), bias (out,) → (…, out), with gradients for all three."""
    if not _gains(rows, weight):
        return functional.linear(rows, weight, bias)
    if torch.is_grad_enabled() and (rows.requires_grad or weight.requires_grad):
        # a view that is made inside of a Function may not be changed in place by the layers that follow
        found: Tensor = _Product.apply(rows.reshape(-1, rows.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
        return found.view(*rows.shape[:-1], len(weight))
    return _by_onednn(rows, weight, bias)


def _gains(rows: Tensor, weight: Tensor) -> bool:
    count = rows.numel() // max(1, rows.shape[-1])
    return (
        count >= LEAST_ROWS
        and count * weight.numel() >= LEAST_WORK
        and rows.dtype is weight.dtype is torch.float32
        and rows.device.type == weight.device.type == "cpu"
        and available()
        and not torch.is_autocast_enabled("cpu")
    )


def _by_onednn(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # a bias is read as if it were contiguous
    bias = None if bias is None else bias.contiguous()
    found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return found


class _Product(torch.autograd.Function):
    """The same for rows (rows, in), with its gradients, which are products too."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows if weight.requires_grad else None, weight)
        return _by_onednn(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        to_rows, to_weight, to_bias = ctx.needs_input_grad
        return (
            product(gradient, weight.t()) if to_rows else None,
            product(gradient.t(), rows.t()) if to_weight else None,
            gradient.sum(0) if to_bias else None,
        )


class FastLinear(nn.Linear):
    """A layer with the same parameters, to which peft and transformers do whatever they do to `nn.Linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return product(input, self.weight, self.bias)


def is_plain_linear(layer: nn.Module) -> bool:
    """Whether a layer is a linear one with its weights as they are, and no other library's."""
    return type(layer) in (nn.Linear, FastLinear)


def take_fast_products(network: nn.Module) -> None:
    """Make each plain linear layer of a network a FastLinear, in place, where that is any faster."""
    if not available():
        return
    for layer in network.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = FastLinear
