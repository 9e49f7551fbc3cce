"""From a plan to content hashes and an identity, over real files."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hub_kit import NEW, OLD, cached
from model_folder import model_folder

from core.errors import ModelError, PlanError
from core.manifests.hashing import HashCache
from core.plan.identity import run_identity
from core.plan.rows import expand
from core.runs.model_files import LinearLayers, linear_layers, model_hash
from core.runs.resolve import Resolved, ResolveError, ResolveLaterError, Resolver, resolve
from lora_tui.request import load_plan

PLAN = """\
[model]
id = "model"
[data]
train = "data/train.jsonl"
domain = "data/domain.jsonl"
heldout = "data/heldout.jsonl"
[[experiment]]
id = "a"
"""


def write_model(folder: Path, names: tuple[str, ...] = (), weights: bytes = b"") -> Path:
    """A folder in hub format whose safetensors file has a header and no tensors' bytes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "moonshine"}')
    header = json.dumps({name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 0]} for name in names}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + weights)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A plan with a model and three manifests of one fake clip each: hashing does not decode."""
    write_model(tmp_path / "model")
    (tmp_path / "data").mkdir()
    for name in ("train", "domain", "heldout"):
        (tmp_path / "data" / f"{name}.wav").write_bytes(name.encode())
        line = {"audio_filepath": f"{name}.wav", "text": name}
        (tmp_path / "data" / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


def resolved(project: Path, *overrides: str) -> Resolved:
    plan = load_plan(project / "plan.toml", overrides)
    return resolve(plan, expand(plan)[0].settings, HashCache(project / "hashes.json"))


def test_paths_become_absolute_and_all_content_is_hashed(project: Path) -> None:
    run = resolved(project)
    assert run.settings.model.id == str(project / "model")
    assert run.settings.data.train == str(project / "data" / "train.jsonl")
    assert set(run.hashes) == {"model", "train", "domain", "heldout"}
    assert len(run.identity) == 10


def test_a_runtime_that_cannot_have_the_model_is_told_before_it_is_trained(project: Path) -> None:
    with pytest.raises(ResolveError, match=r"gate\.runtime: a moonshine model has no form ct2 \(it holds whisper, "):
        resolved(project, 'gate.runtime="ct2:int8"')
    assert resolved(project, 'gate.runtime="hf:bfloat16"').identity == resolved(project).identity


def test_identity_follows_content_and_not_places(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = resolved(project)
    moved = project.rename(tmp_path_factory.mktemp("elsewhere") / "project")
    assert resolved(moved).identity == before.identity
    (moved / "data" / "domain.wav").write_bytes(b"other")
    assert resolved(moved).identity != before.identity


def test_a_changed_weight_is_another_model(project: Path) -> None:
    before = resolved(project)
    with (project / "model" / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert resolved(project).identity != before.identity


def test_everything_missing_is_told_at_once(project: Path) -> None:
    (project / "data" / "train.jsonl").unlink()
    (project / "data" / "domain.wav").unlink()
    with pytest.raises(ResolveError) as caught:
        resolved(project, "model.id=./nowhere")
    model, train, domain = str(caught.value).split("\n")
    assert model.startswith(f"model.id: no such folder: {project}/nowhere")
    assert train.startswith(f"data.train: no such manifest: {project}/data/train.jsonl: correct the path")
    assert domain.startswith(f"{project}/data/domain.jsonl:1: no audio file")


def test_the_embedded_speech_that_is_not_built_yet_is_told_how_to_build(project: Path) -> None:
    (project / "data" / "train.jsonl").unlink()
    (project / "data" / "recipe.toml").touch()
    with pytest.raises(ResolveError, match="run `make data`, which builds the embedded speech"):
        resolved(project)


def test_a_hub_model_is_its_commit_whatever_the_plan_calls_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A branch that is moved upstream makes another run; a tag of the same commit is the same."""
    cached(tmp_path / "hub", monkeypatch, main=OLD, v2=NEW, v1=OLD)
    run = resolved(project, "model.id=org/model")
    assert (run.settings.model.id, run.settings.model.revision) == ("org/model", OLD)
    assert run.hashes["model"] == f"hub:org/model@{OLD}"
    assert resolved(project, "model.id=org/model", "model.revision=v1").identity == run.identity
    assert resolved(project, "model.id=org/model", f"model.revision={OLD}").identity == run.identity
    assert resolved(project, "model.id=org/model", "model.revision=v2").identity != run.identity
    cached(tmp_path / "hub", monkeypatch, main=NEW)
    moved = resolved(project, "model.id=org/model")
    assert moved.settings.model.revision == NEW and moved.identity != run.identity


def test_a_hub_model_whose_commit_nobody_knows_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached(tmp_path / "hub", monkeypatch)
    with pytest.raises(ResolveLaterError, match=r"which commit of org/model is main is not known here.*start the plan"):
        resolved(project, "model.id=org/model")
    plan = load_plan(project / "plan.toml", ["model.id=org/model"])
    asking = Resolver(plan, HashCache(project / "hashes.json"), asks_hub=True)
    with pytest.raises(ResolveError, match=r"the hub could not be asked .*write its commit \(40 hex digits\)"):
        asking.resolve(expand(plan)[0].settings)


@pytest.mark.parametrize("revision", ["../../main", "/etc/passwd", "a b", "."])
def test_what_is_no_revision_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, revision: str
) -> None:
    cached(tmp_path / "hub", monkeypatch, main=OLD)
    plan = load_plan(project / "plan.toml", ["model.id=org/model"])
    settings = expand(plan)[0].settings
    odd = replace(settings, model=replace(settings.model, revision=revision))
    with pytest.raises(ResolveError, match="is no revision: name a branch, a tag or a commit"):
        resolve(plan, odd, HashCache(project / "hashes.json"))


@pytest.mark.parametrize("name", ["nope", "/nope", "data/nope", "../nope", "a/b/c", "."])
def test_a_path_gone_wrong_is_not_taken_for_a_hub_id(project: Path, name: str) -> None:
    with pytest.raises(ResolveError, match=r"no such folder|no config\.json"):
        resolved(project, f"model.id='{name}'")


def test_a_revision_of_a_folder_is_refused(project: Path) -> None:
    with pytest.raises(ResolveError, match=r"model\.revision is for hub ids"):
        resolved(project, "model.revision=v2")


def test_manifests_are_read_once_for_all_rows(project: Path) -> None:
    plan = load_plan(project / "plan.toml")
    calls: list[str] = []
    resolver = Resolver(plan, HashCache(project / "hashes.json"), lambda key, done, total: calls.append(key))
    settings = expand(plan)[0].settings
    assert resolver.resolve(settings) == resolver.resolve(settings)
    assert calls == ["train", "domain", "heldout"]


def test_model_hash_sees_what_decides_transcripts_only(tmp_path: Path) -> None:
    folder, cache = write_model(tmp_path / "m"), HashCache(tmp_path / "hashes.json")
    before = model_hash(folder, cache)
    (folder / "README.md").write_text("x")
    (folder / "training_log.json").write_text("{}")
    assert model_hash(folder, cache) == before
    (folder / "tokenizer.json").write_text("{}")
    assert model_hash(folder, cache) != before


@pytest.mark.parametrize(
    ("missing", "message"),
    [("config.json", "no config.json"), ("model.safetensors", "no weights"), (None, "no such model folder")],
)
def test_a_folder_that_is_no_model(tmp_path: Path, missing: str | None, message: str) -> None:
    folder = write_model(tmp_path / "m")
    if missing is None:
        folder = tmp_path / "other"
    else:
        (folder / missing).unlink()
    with pytest.raises(ModelError, match=message):
        model_hash(folder, HashCache(tmp_path / "hashes.json"))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only pickled weights"):
        model_hash(folder, HashCache(tmp_path / "hashes.json"))


def test_linear_layers_are_read_from_the_weights_header(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "m",
        (
            "encoder.layers.0.self_attn.v_proj.weight", "encoder.layers.0.self_attn.q_proj.weight",
            "encoder.layers.0.self_attn.out_proj.weight", "encoder.layers.0.self_attn.q_proj.bias",
            "model.encoder.layers.0.mlp.fc2.weight", "model.decoder.layers.0.fc1.weight",
            "model.decoder.embed_tokens.weight", "proj_out.weight",
            "encoder.layers.0.self_attn.distance_embedding.weight",
        ),
    )  # fmt: skip
    assert linear_layers(folder) == LinearLayers(("q_proj", "v_proj", "out_proj"), ("fc1", "fc2"))


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 3) + b"{x}"])
def test_broken_weights_have_no_layers(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    assert linear_layers(tmp_path) == LinearLayers()


@pytest.mark.parametrize(
    ("data", "message"),
    [(None, r"no such plan: .*lora-tui init"), (b"a = 1\nb = '\xff'\n", r"plan\.toml:2: not valid UTF-8")],
)
def test_a_plan_file_that_cannot_be_read(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "plan.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(PlanError, match=message):
        load_plan(path)


def test_a_folder_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        load_plan(tmp_path)


@pytest.mark.parametrize("key", ["heldout", "selection"])
def test_the_lines_of_another_set_under_another_name_are_refused(project: Path, key: str) -> None:
    data = project / "data"
    (data / "copy.wav").write_bytes((data / "domain.wav").read_bytes())
    (data / "other.jsonl").write_text(json.dumps({"audio_filepath": "copy.wav", "text": "domain"}) + "\n")
    with pytest.raises(ResolveError, match=rf"data.{key}: .*other.jsonl is the same set as data.domain"):
        resolved(project, f'data.{key}="data/other.jsonl"')


def shared_out(project: Path, share: str) -> Resolved:
    for name in ("train", "replay"):
        rows = []
        for number in range(20):
            (project / "data" / f"{name}{number}.wav").write_bytes(f"{name} {number}".encode())
            row = {
                "audio_filepath": f"{name}{number}.wav",
                "text": f"{name} says {number}",
                "speaker": f"{name}{number % 10}",
            }
            rows.append(json.dumps(row) + "\n")
        (project / "data" / f"{name}.jsonl").write_text("".join(rows))
    plan = load_plan(project / "plan.toml", ["data.replay=data/replay.jsonl", f"data.selection_share={share}"])
    return resolve(plan, expand(plan)[0].settings, HashCache(project / "cache.json"))


def test_a_share_for_selection_makes_another_run_of_parts(project: Path) -> None:
    """Every part has its own hash; off it is no part of the identity, and paths stay those of the plan."""
    off, on, more = (shared_out(project, share) for share in ("0.0", "0.1", "0.3"))
    assert off.identity == run_identity(replace(off.settings, data=replace(off.settings.data)), off.hashes)
    assert "selection" not in off.hashes
    assert len({off.identity, on.identity, more.identity}) == 3
    assert {"selection", "selection_heldout"} < on.hashes.keys() == on.lines.keys() | {"model"}
    assert all(off.hashes[name] != on.hashes[name] for name in ("train", "replay"))
    assert (on.settings.data.train, on.settings.data.selection) == (off.settings.data.train, None)


def test_a_share_that_cannot_be_taken_is_told(project: Path) -> None:
    with pytest.raises(
        ResolveError, match=r"data.selection_share = 0.1 cannot be taken from data.train \(.*train.jsonl"
    ):
        resolved(project, "data.replay=data/domain.jsonl", "data.selection_share=0.1")


def with_noise(project: Path) -> Resolved:
    plan = load_plan(project / "plan.toml", ["train.augment.noise=noise"])
    return resolve(plan, expand(plan)[0].settings, HashCache(project / "cache.json"))


def spoken(project: Path, name: str, language: str | None) -> None:
    """Have the line of a set name what is spoken."""
    path = project / "data" / f"{name}.jsonl"
    line = json.loads(path.read_text()) | {"language": language}
    path.write_text(json.dumps({key: value for key, value in line.items() if value is not None}) + "\n")


@pytest.mark.parametrize(("model_type", "matters"), [("qwen3_asr", True), ("moonshine", False), ("wav2vec2", False)])
def test_another_language_of_a_clip_is_another_run_of_a_model_that_is_told_it(
    project: Path, model_type: str, matters: bool
) -> None:
    model_folder(project / "model", model_type)
    german = resolved(project, "model.language=de")
    spoken(project, "train", "de")
    assert resolved(project, "model.language=de").identity == german.identity, "it is told the same"
    others = []
    for name, language in (("train", "en"), ("train", "fr"), ("heldout", "fr")):
        spoken(project, "train", "de")
        spoken(project, name, language)
        others.append(resolved(project, "model.language=de").identity)
        spoken(project, name, None)
    assert len({german.identity, *others}) == (4 if matters else 1)


def test_a_multilingual_whisper_is_told_the_language_even_where_only_its_config_is_here(project: Path) -> None:
    folder = model_folder(project / "model", "whisper")
    (folder / "config.json").write_text('{"model_type": "whisper", "vocab_size": 51865}')
    before = resolved(project, "model.language=de")
    spoken(project, "domain", "en")
    several = resolved(project, "model.language=de")
    assert several.identity != before.identity and set(several.hashes) == {*before.hashes, "languages"}
    (folder / "config.json").write_text('{"model_type": "whisper", "vocab_size": 51864}')
    english = resolved(project)
    spoken(project, "domain", None)
    assert english.identity == resolved(project).identity, "which is told none"


def test_noise_is_known_by_its_recordings(project: Path) -> None:
    """Not by their folder, and not by what else lies in it."""
    (project / "noise" / "street").mkdir(parents=True)
    (project / "noise" / "street" / "a.WAV").write_bytes(b"a car")
    plain = with_noise(project)
    assert plain.settings.train.augment.noise == str(project / "noise")
    (project / "noise" / "LICENCE").write_text("free")
    assert with_noise(project) == plain
    (project / "noise" / "street" / "a.WAV").write_bytes(b"two cars")
    assert with_noise(project).identity != plain.identity


def test_a_folder_without_recordings_is_named(project: Path) -> None:
    with pytest.raises(ResolveError, match=r"train\.augment\.noise: no such folder: .*noise: correct the path"):
        with_noise(project)
    (project / "noise").mkdir()
    with pytest.raises(ResolveError, match=r"train\.augment\.noise: no recordings in .*noise: put wav"):
        with_noise(project)
