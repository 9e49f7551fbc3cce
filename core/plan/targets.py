"""Which layers of a model an adapter is put on, with what rank, and how many weights are trained. Pure.

`lora-tui plan` asks with the layers that the model's files name, the trainer with those of the loaded network, and both
say the same sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from core.plan.families import FamilyFacts
from core.plan.schema import AdapterSettings
from core.plan.texts import layer_range, module_rank

WORDS = ("attention", "mlp", "all-linear")
"""What `adapter.target_modules` may hold besides names of layers."""
OUTPUT_LAYERS = ("proj_out", "lm_head", "predictions.decoder")
"""Layers that make tokens of the decoder's states; their weights may be the embedding's, so that no file names them."""
FROM_LAYERS = ("pissa", "olora")
"""Methods that begin with the principal parts of each layer, which has to have as many."""
_NUMBER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a linear layer's weights."""

    outputs: int
    inputs: int


class TargetError(Exception):
    """The layers that a plan names are not those of the model: one sentence."""


def ranks_of(adapter: AdapterSettings, layers: Mapping[str, Shape], facts: FamilyFacts) -> dict[str, int]:
    """Whole name of each layer that gets an adapter → its rank. `layers`: the model's linear layers. TargetError."""
    chosen = _in_range(adapter, _at_sites(adapter, _named(adapter, layers, facts), facts))
    ranks = dict.fromkeys(sorted(chosen), adapter.rank)
    given = sorted(map(module_rank, adapter.rank_pattern), key=lambda item: (item[0] not in WORDS, len(item[0])))
    for name, rank in given:  # what says more of a layer comes later
        belongs = _belongs(name, facts)
        matched = [layer for layer in ranks if belongs(layer)]
        if not matched:
            raise TargetError(
                f"adapter.rank_pattern: {name} is none of the layers that get an adapter; those are {_leaves(ranks)}"
            )
        ranks |= dict.fromkeys(matched, rank)
    if adapter.method in FROM_LAYERS:
        _check_ranks(adapter.method, ranks, layers)
    return ranks


def plain_names(adapter: AdapterSettings, facts: FamilyFacts) -> bool:
    """Whether the plan's own names say which layers get an adapter, wherever they are, all of one rank."""
    everywhere = (adapter.sites or facts.default_sites) == "both" and adapter.layers is None
    return everywhere and not adapter.rank_pattern and not set(WORDS) & set(adapter.target_modules)


def is_output(layer: str) -> bool:
    """Whether a layer makes tokens of the decoder's states."""
    return any(layer == name or layer.endswith(f".{name}") for name in OUTPUT_LAYERS)


def trained_weights(adapter: AdapterSettings, ranks: Mapping[str, int], layers: Mapping[str, Shape]) -> int:
    """Weights that are trained: rank (inputs + outputs) of each layer, and a magnitude for each output with DoRA."""
    found = 0
    for name, rank in ranks.items():
        shape = layers.get(name, Shape(0, 0))  # of an output layer without weights of its own
        found += rank * (shape.inputs + shape.outputs) + (shape.outputs if adapter.method == "dora" else 0)
    return found


def saved_weights(adapter: AdapterSettings, trained: int) -> int:
    """Weights in an adapter's file: what it began with goes along where that is not zero."""
    return 2 * trained if adapter.method in FROM_LAYERS else trained


def _named(adapter: AdapterSettings, layers: Collection[str], facts: FamilyFacts) -> dict[str, list[str]]:
    """Each target with the layers that it names."""
    found = {}
    for target in adapter.target_modules:
        belongs = _belongs(target, facts)
        found[target] = [layer for layer in layers if belongs(layer)]
    missing = [target for target, matched in found.items() if not matched]
    if missing or not found:
        raise TargetError(
            f"adapter.target_modules: this model has no linear layer named {', '.join(missing) or '(none given)'}; "
            f"there are: {_leaves(layers)}"
        )
    return found


def _belongs(target: str, facts: FamilyFacts) -> Callable[[str], bool]:
    """Whether a layer is one of those that a name of a plan means."""
    if target == "all-linear":
        return lambda layer: not is_output(layer)
    if target in WORDS:
        leaves = facts.attention if target == "attention" else facts.mlp
        return lambda layer: any(layer == leaf or layer.endswith(f".{leaf}") for leaf in leaves)
    return lambda layer: layer == target or layer.endswith(f".{target}")


def _at_sites(adapter: AdapterSettings, named: dict[str, list[str]], facts: FamilyFacts) -> dict[str, list[str]]:
    site = adapter.sites or facts.default_sites
    if site == "both":
        return named
    prefix = facts.encoder if site == "encoder" else facts.decoder
    if prefix is None:
        raise TargetError(f'adapter.sites: a {facts.name} model has no decoder; write "encoder" or leave the key out')
    within = re.compile(prefix)
    return _left(named, lambda layer: within.match(layer) is not None, f"adapter.sites: the {site}")


def _in_range(adapter: AdapterSettings, named: dict[str, list[str]]) -> set[str]:
    if adapter.layers is not None:
        first, last = layer_range(adapter.layers)
        numbers = {_number(layer) for matched in named.values() for layer in matched} - {None}
        highest = max((number for number in numbers if number is not None), default=-1)
        if max(first, last or 0) > highest:
            there = f"0 to {highest}" if numbers else "not numbered"
            raise TargetError(f'adapter.layers: "{adapter.layers}" is more than there is: the layers are {there}')

        def within(layer: str) -> bool:
            number = _number(layer)
            return number is not None and first <= number <= (highest if last is None else last)

        named = _left(named, within, f"adapter.layers: {adapter.layers}")
    return {layer for matched in named.values() for layer in matched}


def _left(named: dict[str, list[str]], keep: Callable[[str], bool], where: str) -> dict[str, list[str]]:
    """The layers that are kept; each target must keep one."""
    left = {target: [layer for layer in matched if keep(layer)] for target, matched in named.items()}
    gone = [target for target, matched in left.items() if not matched]
    if gone:
        there = {layer for matched in left.values() for layer in matched}
        also = f"; there are: {_leaves(there)}" if there else ""
        raise TargetError(f"{where} has no layer named {', '.join(gone)}{also}")
    return left


def _check_ranks(method: str, ranks: Mapping[str, int], layers: Mapping[str, Shape]) -> None:
    for name, rank in ranks.items():
        shape = layers.get(name)
        if shape is not None and rank > min(shape.outputs, shape.inputs):
            raise TargetError(
                f"adapter.rank: {method} takes at most {min(shape.outputs, shape.inputs)} from layer {name} "
                f"({shape.outputs} by {shape.inputs}), not {rank}: lower it, or give rank_pattern for that layer"
            )


def _number(layer: str) -> int | None:
    found = _NUMBER.search(layer)
    return None if found is None else int(found[1])


def _leaf(layer: str) -> str:
    return layer.rpartition(".")[2]


def _leaves(layers: Iterable[str]) -> str:
    return ", ".join(sorted({_leaf(layer) for layer in layers}))
