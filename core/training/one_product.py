"""One matrix product for an adapted layer in a training step, in place of those of base, adapter and norm.

With x (rows, in), W (out, in), A (rank, in), B (out, rank), scale s and, for DoRA, magnitudes m (out,):

    y = x W'ᵀ + bias,   W' = c ⊙ (W + s B A),   c = m / ‖W + s B A‖ by row (DoRA, arXiv:2402.09353, section 4.3), else 1

W' is made anew for each forward pass: that is r products a weight, where the passes that it saves are one for each row
of x. The gradients of A, B and m follow by the chain rule. As in peft, the norm counts as a constant.

Parameters, their names and what is saved stay peft's own; only the forward pass of its layers is another one while
gradients are computed, and all that is not certain here (dropout, autocast, a reduced base …) is left to peft's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from peft.tuners.lora import Linear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from core.training.products import is_plain_linear, product

SMALL = 2**18
"""Weights of a layer that are made anew for a batch of any size."""
_EXACT = (torch.float32, torch.float64)
"""In fewer bits W + s B A would round small updates away."""


class _OneProduct(torch.autograd.Function):
    """y of the module's docstring; differentiable in x, A, B and m."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        magnitude: Tensor | None,
        scale: float,
        began: Sequence[tuple[Tensor, Tensor, float]],
    ) -> Tensor:
        """x (rows, in) → (rows, out). `began`: (A0, B0, its scale) of frozen adapters that are added to the weight."""
        whole = torch.addmm(weight, b, a, alpha=scale)
        for a0, b0, scale0 in began:
            whole.addmm_(b0, a0, alpha=scale0)
        factors = None
        if magnitude is not None:
            factors = magnitude / torch.linalg.vector_norm(whole, dim=1)
            whole.mul_(factors[:, None])
        y = product(x, whole, bias)
        outputs, inputs = whole.shape
        ctx.thin = 2 * len(a) * (inputs + outputs) < inputs * outputs  # cheaper than the gradient of the whole weight
        # a copy: what follows may change y in place
        copy = y.clone() if magnitude is not None and ctx.thin else None
        ctx.save_for_backward(x, whole, bias, a, b, magnitude, factors, copy)
        ctx.scale = scale
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in the order of forward's arguments."""
        x, whole, bias, a, b, magnitude, factors, y = ctx.saved_tensors
        of_x = product(of_y, whole.t()) if ctx.needs_input_grad[0] else None
        if factors is not None:
            b = b * factors[:, None]
        if ctx.thin:
            of_a = product(product(of_y, b.t()).t(), x.t())
            of_b = product(product(x, a).t(), of_y.t()).t()
        else:
            of_whole = product(of_y.t(), x.t())
            of_a = b.T @ of_whole
            of_b = of_whole @ a.T
        of_magnitude = None
        if magnitude is not None:
            of_b = of_b * factors[:, None]
            # m is a factor of each output less its bias: Σ g (y − bias) / m; an m of 0 has no output to tell it by
            if ctx.thin:
                heard = (of_y * y).sum(0)
                if bias is not None:
                    heard -= of_y.sum(0) * bias
            else:
                heard = (of_whole * whole).sum(1)
            of_magnitude = torch.where(magnitude == 0, 0.0, heard / magnitude)
        return of_x, None, None, of_a.mul_(ctx.scale), of_b.mul_(ctx.scale), of_magnitude, None, None


class OneProductLinear(Linear):  # type: ignore[misc]
    """peft's layer with the forward pass of this module, where that is the same function and cheaper."""

    _squares: Tensor | None = None

    def forward(self, x: Tensor, *args: Any, **more: Any) -> Tensor:
        """(…, in) → (…, out)."""
        weight, bias = self.get_base_layer().weight, self.get_base_layer().bias
        names = self.active_adapters
        trained = [name for name in names if name in self.lora_A and self.lora_A[name].weight.requires_grad]
        usual = not (args or more or self.disable_adapters or self.merged) and torch.is_grad_enabled()
        if not (usual and self._plain() and len(trained) == 1 and all(map(self._known, names))):
            return cast(Tensor, super().forward(x, *args, **more))
        [name], others = trained, [other for other in names if other not in trained]
        a, b, scale = self._parts(name)
        magnitude = self.lora_magnitude_vector[name].weight if name in self.lora_variant else None
        alike = x.dtype == weight.dtype == a.dtype and not torch.is_autocast_enabled(x.device.type)
        # with fewer rows a large weight would take more memory than it saves
        if alike and (weight.numel() <= SMALL or x.numel() // x.shape[-1] >= max(weight.shape)):
            began = [self._parts(other) for other in others]
            # a view that is made inside of a Function may not be changed in place by the layers that follow
            rows = x.reshape(-1, x.shape[-1])
            y: Tensor = _OneProduct.apply(rows, weight, bias, a, b, magnitude, scale, began)  # type: ignore[no-untyped-call]
            return y.view(*x.shape[:-1], len(weight))
        if magnitude is None or others:
            return cast(Tensor, super().forward(x))
        factors = magnitude / self._norms(a, b, scale)
        low = functional.linear(functional.linear(x.to(a.dtype), a), b)
        y = product(x, weight)
        scaled = factors * y + (factors * scale) * low
        result: Tensor = scaled if bias is None else scaled + bias
        return result.to(y.dtype)

    def _parts(self, name: str) -> tuple[Tensor, Tensor, float]:
        return self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]

    def _plain(self) -> bool:
        """Whether the base is a frozen linear layer in full precision."""
        base = self.get_base_layer()
        frozen = not (base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad))
        return is_plain_linear(base) and base.weight.dtype in _EXACT and frozen

    def _known(self, name: str) -> bool:
        """Whether the adapter of that name is nothing but A and B, or those and DoRA's magnitudes."""
        more = type(self.lora_variant.get(name)) not in (type(None), DoraLinearVariant)
        return not (more or self.lora_bias[name]) and isinstance(self.lora_dropout[name], nn.Identity)

    @torch.no_grad()
    def _norms(self, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """‖W + s B A‖ of each row (out,), without a tensor of the weight's size.

        ‖w + s b A‖² = ‖w‖² + 2 s (w Aᵀ)·b + s² b (A Aᵀ) bᵀ for a row w of W and b of B; ‖w‖² is computed once.
        """
        weight = self.get_base_layer().weight
        with torch.autocast(weight.device.type, enabled=False):
            if self._squares is None:
                self._squares = torch.linalg.vector_norm(weight, dim=1).square()
            changed = 2 * (weight @ a.T) + scale * (b @ (a @ a.T))
            squares: Tensor = self._squares + scale * (changed * b).sum(1)
        return squares.clamp_min(0).sqrt()


def use_one_product(network: nn.Module) -> None:
    """Let the linear layers of a peft model compute their training steps so. Nothing else of them changes."""
    for layer in network.modules():
        if type(layer) is Linear and not layer.fan_in_fan_out:
            layer.__class__ = OneProductLinear
