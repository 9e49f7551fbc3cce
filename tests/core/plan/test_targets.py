"""Which layers a plan's names mean: asked by `lora-tui plan` and by the trainer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.plan.families import FamilyFacts
from core.plan.schema import AdapterSettings
from core.plan.targets import Shape, TargetError, plain_names, ranks_of, saved_weights, trained_weights

FACTS = FamilyFacts("whisper", ("whisper",), attention=("q_proj", "out_proj"), mlp=("fc1", "fc2"))
SQUARE, WIDE, TALL = Shape(8, 8), Shape(32, 8), Shape(8, 32)
LAYERS = {
    f"model.{stack}.layers.{number}.{name}": shape
    for stack, count in (("encoder", 4), ("decoder", 2))
    for number in range(count)
    for name, shape in (("self_attn.q_proj", SQUARE), ("self_attn.out_proj", SQUARE), ("fc1", WIDE), ("fc2", TALL))
} | {"model.decoder.layers.0.encoder_attn.q_proj": SQUARE, "proj_out": WIDE}
PLAIN = AdapterSettings(method="lora", rank=4, target_modules=("q_proj",))


def chosen(**more: object) -> set[str]:
    return set(ranks_of(replace(PLAIN, **more), LAYERS, FACTS))  # type: ignore[arg-type]


def refusal(**more: object) -> str:
    with pytest.raises(TargetError) as caught:
        chosen(**more)
    return str(caught.value)


def test_names_are_whole_parts() -> None:
    assert len(chosen()) == 7
    assert len(chosen(target_modules=("self_attn.q_proj",))) == 6
    assert chosen(target_modules=("model.encoder.layers.1.fc1",)) == {"model.encoder.layers.1.fc1"}
    said = refusal(target_modules=("o_proj", "q_proj"))
    assert said == (
        "adapter.target_modules: this model has no linear layer named o_proj; "
        "there are: fc1, fc2, out_proj, proj_out, q_proj"
    )
    assert "(none given)" in refusal(target_modules=())


def test_words_mean_the_familys_layers() -> None:
    assert len(chosen(target_modules=("attention",))) == 13
    assert len(chosen(target_modules=("mlp",))) == 12
    assert chosen(target_modules=("all-linear",)) == set(LAYERS) - {"proj_out"}
    assert chosen(target_modules=("mlp", "proj_out")) == chosen(target_modules=("mlp",)) | {"proj_out"}


def test_sites_and_layers_narrow_the_choice() -> None:
    decoder = chosen(sites="decoder")
    assert decoder == {name for name in LAYERS if name.startswith("model.decoder") and name.endswith(".q_proj")}
    assert len(decoder) == 3, "cross-attention belongs to the decoder"
    assert chosen(sites="encoder") | decoder == chosen(sites="both") == chosen()
    assert chosen(layers="1-2", sites="encoder") == {f"model.encoder.layers.{n}.self_attn.q_proj" for n in (1, 2)}
    assert chosen(layers="2-", sites="encoder") == {f"model.encoder.layers.{n}.self_attn.q_proj" for n in (2, 3)}
    assert chosen(layers="1") == {f"model.{stack}.layers.1.self_attn.q_proj" for stack in ("encoder", "decoder")}
    assert len(ranks_of(PLAIN, LAYERS, replace(FACTS, default_sites="decoder"))) == 3


def test_each_name_must_be_left_with_a_layer() -> None:
    only_encoder = {name: shape for name, shape in LAYERS.items() if "decoder" not in name or "q_proj" in name}
    with pytest.raises(TargetError, match="the decoder has no layer named fc1; there are: q_proj"):
        ranks_of(replace(PLAIN, sites="decoder", target_modules=("q_proj", "fc1")), only_encoder, FACTS)
    assert refusal(layers="2-4") == 'adapter.layers: "2-4" is more than there is: the layers are 0 to 3'
    assert refusal(layers="2-3", sites="decoder").endswith("the layers are 0 to 1")
    assert refusal(layers="0", target_modules=("proj_out",)).endswith("the layers are not numbered")
    assert "has no layer named proj_out" in refusal(layers="0", target_modules=("q_proj", "proj_out"))
    with pytest.raises(TargetError, match="a ctc model has no decoder"):
        ranks_of(replace(PLAIN, sites="decoder"), LAYERS, replace(FACTS, name="ctc", decoder=None))


def test_a_layer_may_have_its_own_rank_the_longest_name_wins() -> None:
    adapter = replace(
        PLAIN,
        target_modules=("attention", "fc1"),
        rank_pattern=("q_proj=8", "model.encoder.layers.0.self_attn.q_proj=2", "attention=6"),
    )
    ranks = ranks_of(adapter, LAYERS, FACTS)
    assert ranks["model.encoder.layers.0.self_attn.q_proj"] == 2
    assert ranks["model.encoder.layers.1.self_attn.q_proj"] == 8
    assert ranks["model.encoder.layers.1.self_attn.out_proj"] == 6
    assert ranks["model.encoder.layers.1.fc1"] == 4
    assert refusal(rank_pattern=("fc1=8",)) == (
        "adapter.rank_pattern: fc1 is none of the layers that get an adapter; those are q_proj"
    )


def test_a_layer_cannot_give_more_principal_parts_than_it_has() -> None:
    assert chosen(rank=32) == chosen()
    for method in ("pissa", "olora"):
        assert f"{method} takes at most 8 from layer" in refusal(method=method, rank=9)
    assert chosen(method="pissa", rank=9, rank_pattern=("q_proj=8",))


def test_the_plans_own_names_say_it_all_only_when_nothing_narrows_them() -> None:
    assert plain_names(PLAIN, FACTS) and plain_names(replace(PLAIN, sites="both"), FACTS)
    assert not plain_names(PLAIN, replace(FACTS, default_sites="decoder"))
    for more in ({"sites": "encoder"}, {"layers": "0"}, {"rank_pattern": ("q_proj=8",)}, {"target_modules": ("mlp",)}):
        assert not plain_names(replace(PLAIN, **more), FACTS)  # type: ignore[arg-type]


def test_weights_are_counted() -> None:
    layers = {"a.q_proj": SQUARE, "a.fc1": WIDE}
    both = replace(PLAIN, target_modules=("q_proj", "fc1"), rank_pattern=("fc1=2",))
    ranks = ranks_of(both, layers, FACTS)
    assert trained_weights(both, ranks, layers) == 4 * 16 + 2 * 40
    assert trained_weights(replace(both, method="dora"), ranks, layers) == 4 * 16 + 2 * 40 + 8 + 32
    assert saved_weights(both, 10) == 10 and saved_weights(replace(both, method="pissa"), 10) == 20
