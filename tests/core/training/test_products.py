"""Products by oneDNN are those of `functional.linear`, their gradients too, and a layer stays a linear layer."""

import os
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from core.training import products
from core.training.products import FastLinear, product, take_fast_products

LARGE = (4, 40, 128, 96)
"""Two numbers of rows, inputs, outputs: enough work for oneDNN."""


def drawn(clips: int, places: int, width: int, out: int) -> list[Any]:
    """Rows, weight and bias that want gradients."""
    torch.manual_seed(1)
    return [torch.randn(*size, requires_grad=True) for size in ((clips, places, width), (out, width), (out,))]


@pytest.mark.parametrize("size", [LARGE, (1, 1, 8, 4), (3, 1, 512, 1024)], ids=["large", "small", "few rows"])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_those_of_linear(size: tuple[int, int, int, int], biased: bool) -> None:
    """Within float noise, whichever library computes them."""
    rows, weight, bias = drawn(*size)
    given = (rows, weight, bias) if biased else (rows, weight)
    ours, plain = product(*given), functional.linear(*given)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)
    wanted = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad(ours, given, wanted), torch.autograd.grad(plain, given, wanted), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_frozen_weights_keep_no_input_and_get_no_gradient() -> None:
    """What is kept for the backward pass is memory: a frozen layer needs its weight alone."""
    rows, weight, _ = drawn(*LARGE)
    weight.requires_grad_(False)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
        made = product(rows, weight)
    assert all(t.shape != rows.shape for t in kept)
    made.sum().backward()
    assert rows.grad is not None
    assert weight.grad is None


def test_bf16_and_autocast_are_left_to_torch() -> None:
    """The precision of a training step is what it was."""
    rows, weight, bias = drawn(*LARGE)
    with torch.autocast("cpu", torch.bfloat16):
        assert product(rows, weight, bias).dtype is torch.bfloat16
    assert product(rows.bfloat16(), weight.bfloat16(), bias.bfloat16()).dtype is torch.bfloat16


def test_layers_of_a_network_are_changed_in_place_and_plain_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and parameters stay; a subclass, such as a quantised layer, keeps its own forward."""

    class Quantised(nn.Linear):
        """Stands for layers of other libraries."""

    monkeypatch.setattr(products, "available", lambda: True)
    network = nn.Sequential(nn.Linear(4, 4), Quantised(4, 4))
    before = dict(network.state_dict())
    take_fast_products(network)
    assert [type(layer) for layer in network] == [FastLinear, Quantised]
    assert all(network.state_dict()[name] is not None for name in before)
    assert isinstance(network[0], nn.Linear)


def test_without_onednn_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on other processors, or in a torch that lacks the operation."""
    monkeypatch.setattr(products, "available", lambda: False)
    network = nn.Sequential(nn.Linear(4, 4))
    take_fast_products(network)
    assert type(network[0]) is nn.Linear
    rows, weight, bias = drawn(*LARGE)
    assert torch.equal(product(rows, weight, bias), functional.linear(rows, weight, bias))


def test_onednn_keeps_few_kernels_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is of one shape, and a large evaluation has thousands of shapes."""
    for name, usual in (("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256"), ("LRU_CACHE_CAPACITY", "64")):
        for given, found in ((None, usual), ("7", "7")):
            monkeypatch.delenv(name, raising=False)
            if given is not None:
                monkeypatch.setenv(name, given)
            products.available.cache_clear()
            products.available()
            assert os.environ[name] == found


def test_what_a_layer_gives_may_be_changed_in_place() -> None:
    """As encoders do that silence what is beyond a clip, or add a position to it."""
    found = []
    for kind in (FastLinear, nn.Linear):
        torch.manual_seed(1)
        layer, rows = kind(128, 96), torch.randn(4, 40, 128, requires_grad=True)
        given = layer(rows)
        given[:, 30:] = 0
        given += 1
        given.square().sum().backward()
        found.append((given.detach(), rows.grad, layer.weight.grad, layer.bias.grad))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-3)


def test_a_bias_may_lie_anywhere() -> None:
    """One that is a column of a table, or one number for all outputs."""
    rows, weight, _ = drawn(*LARGE)
    for bias in (torch.randn(96, 3)[:, 1], torch.randn(1).expand(96)):
        torch.testing.assert_close(product(rows, weight, bias), functional.linear(rows, weight, bias))
        with torch.no_grad():
            torch.testing.assert_close(product(rows, weight, bias), functional.linear(rows, weight, bias))
