"""The forward and backward pass of adapted layers in a training step, against peft's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from core.training import products as fast
from core.training.one_product import OneProductLinear, use_one_product

WIDE = 40
"""Rows of a batch, more than the layer is wide."""
FEW = 4


class Net(nn.Module):
    """Three layers, the last of which hears the others; the second has no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 20), nn.Linear(12, 20, bias=False), nn.Linear(20, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x) * self.second(x).sigmoid()))


def adapted(method: str, rank: int = 3, dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> Any:
    """A peft model of `Net` whose adapters have been trained a while."""
    torch.manual_seed(3)
    config = LoraConfig(
        r=rank,
        lora_alpha=5,
        lora_dropout=dropout,
        target_modules=["first", "second", "last"],
        use_dora=method == "dora",
        use_rslora=method == "rslora",
    )
    network: Any = get_peft_model(Net(), config)
    if method == "beginning":
        network.add_adapter("beginning", copy.deepcopy(config))
        network.base_model.set_adapter(["default", "beginning"])
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".lora_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
                parameter.requires_grad_(".beginning" not in name)
    return network.to(dtype)


def results(network: Any, rows: int, autocast: bool = False) -> dict[str, Tensor]:
    """The output for a batch, and the gradients of all that has one."""
    torch.manual_seed(9)
    dtype = next(network.parameters()).dtype
    x = torch.randn(2, rows // 2, 12).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = network(x)
    y.float().square().sum().backward() if autocast else y.square().sum().backward()
    trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert all(gradient is not None for gradient in trained.values())
    return {"output": y.detach(), "input": x.grad, **trained}


def both(network: Any, rows: int, autocast: bool = False) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(peft's, ours)."""
    ours = copy.deepcopy(network)
    use_one_product(ours)
    return results(network, rows, autocast), results(ours, rows, autocast)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names what computes each layer's pass: a list that grows."""
    import core.training.one_product as module

    calls: list[str] = []
    apply, norms = module._OneProduct.apply, OneProductLinear._norms

    def counted(*inputs: Any) -> Any:
        calls.append("one product")
        return apply(*inputs)

    def apart(*inputs: Any) -> Any:
        calls.append("closed norm")
        return norms(*inputs)

    monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(module._OneProduct, "apply", counted)
    monkeypatch.setattr(OneProductLinear, "_norms", apart)
    return calls


@pytest.mark.parametrize("rank", [3, 11], ids=["thin", "as wide as the layer"])
@pytest.mark.parametrize("method", ["lora", "dora", "rslora", "beginning"])
@pytest.mark.parametrize("layers", ["plain", "of a loaded network"])
def test_outputs_and_gradients_are_those_of_peft(
    method: str, rank: int, layers: str, products: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = adapted(method, rank)
    if layers != "plain":
        monkeypatch.setattr(fast, "available", lambda: True)
        fast.take_fast_products(network)
    theirs, ours = both(network, WIDE)
    assert products == ["one product"] * 3
    assert theirs.keys() == ours.keys()
    for name, wanted in theirs.items():
        torch.testing.assert_close(ours[name], wanted, rtol=1e-9, atol=1e-11, msg=name)


def test_with_few_rows_the_norm_is_had_without_a_weight(products: list[str]) -> None:
    theirs, ours = both(adapted("dora"), FEW)
    assert products == ["closed norm"] * 3
    for name, wanted in theirs.items():
        torch.testing.assert_close(ours[name], wanted, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_in_bf16_the_adapter_stays_apart_from_the_weight(method: str, products: list[str]) -> None:
    """Where it would be rounded away."""
    exact, _ = both(adapted(method), WIDE)
    products.clear()
    theirs, ours = both(adapted(method, dtype=torch.float32), WIDE, autocast=True)
    assert "one product" not in products
    for name, wanted in exact.items():
        ours_off, theirs_off = ((found[name].double() - wanted).norm() / wanted.norm() for found in (ours, theirs))
        assert ours_off < max(1.5 * theirs_off, 0.005) < 0.05, name


@pytest.mark.parametrize("why", ["dropout", "reduced base", "no gradients", "switched off", "merged"])
def test_what_is_not_certain_is_left_to_peft(why: str, products: list[str]) -> None:
    network = adapted("dora", dropout=0.5 if why == "dropout" else 0.0)
    ours = copy.deepcopy(network)
    use_one_product(ours)
    x = torch.randn(WIDE, 12, dtype=torch.float64)
    outputs = []
    for one in (network, ours):
        layers = [layer for layer in one.modules() if hasattr(layer, "lora_A")]
        if why == "reduced base":
            x = x.bfloat16()
            one.bfloat16()
        if why == "switched off":
            one.base_model.disable_adapter_layers()
        if why == "merged":
            for layer in layers:
                layer.merge()
        torch.manual_seed(1)
        with torch.set_grad_enabled(why != "no gradients"):
            outputs.append(one(x))
    assert products == []
    assert torch.equal(*outputs)


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    network = adapted("lora")
    use_one_product(network)
    y = network.base_model.model.first(torch.randn(WIDE, 12, dtype=torch.float64))
    [(computed, _)] = y.grad_fn.next_functions  # beyond its shape
    given = computed.next_functions
    assert [name for name, (function, _) in zip("xwbABm", given, strict=False) if function is not None] == ["A", "B"]


@pytest.mark.parametrize("rows", [WIDE, FEW])
@pytest.mark.parametrize("rank", [1, 11], ids=["thin", "as wide as the layer"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_what_a_layer_gives_may_be_changed_in_place(method: str, rank: int, rows: int) -> None:
    """As encoders do that silence what is beyond a clip, or add a position to it."""

    class Silencing(Net):
        def forward(self, x: Tensor) -> Tensor:
            heard = self.first(x)
            heard[:, -1] = 0
            heard += 1
            return self.last(heard * self.second(x).mul_(2))

    network = adapted(method, rank)
    network.base_model.model.__class__ = Silencing
    theirs, ours = both(network, rows)
    for name, wanted in theirs.items():
        torch.testing.assert_close(ours[name], wanted, rtol=1e-9, atol=1e-11, msg=name)


def test_names_and_weights_stay_those_of_peft() -> None:
    network = adapted("dora")
    names = {name: p.clone() for name, p in network.named_parameters()}
    use_one_product(network)
    results(network, WIDE)
    results(network, FEW)
    assert {name for name, _ in network.named_parameters()} == set(names)
    assert all(torch.equal(p, names[name]) for name, p in network.named_parameters())
    assert set(network.state_dict()) == set(adapted("dora").state_dict())


def test_a_magnitude_of_nothing_makes_no_gradient_that_is_no_number() -> None:
    network = adapted("dora")
    use_one_product(network)
    with torch.no_grad():
        network.base_model.model.first.lora_magnitude_vector["default"].weight[2] = 0.0
    assert all(torch.isfinite(found).all() for found in results(network, WIDE).values())
