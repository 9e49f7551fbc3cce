"""Texts that a model can never write: its tokenizer lacks a character, or its generation config bans a token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers

from core.audit.audit import Source, audit
from core.audit.line_checks import TextCheck
from core.cli.__main__ import main
from core.errors import ModelError

CHARACTERS = "abcdefghijklmnopqrstuvwxyz @_/#"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a tokenizer of single characters, whose config bans the odd ones, as Whisper's does."""
    folder = tmp_path / "model"
    folder.mkdir()
    vocabulary = {"<unk>": 0} | {character: place for place, character in enumerate(CHARACTERS, 1)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = tokenizers.decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"max_target_positions": 30}))
    banned = [vocabulary[character] for character in "@_/#"]
    (folder / "generation_config.json").write_text(json.dumps({"suppress_tokens": [-1, *banned]}))
    return folder


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("mail root@host", {"suppressed": "'@' in 'mail root@host'"}),
        ("set t_max and/or", {"suppressed": "'_ /' in 'set t_max and/or'"}),
        ("plain words", {}),
        ("costs %", {"unwritable": "'%' in 'costs %'"}),
        ("x" * 29, {"too_many_tokens": "29 tokens, the model writes at most 28"}),
    ],
)
def test_texts_that_cannot_be_written_are_named(model: Path, text: str, kinds: dict[str, str]) -> None:
    assert dict(TextCheck(model)(text)) == kinds


def test_training_texts_lift_the_ban_of_the_tokens_that_they_have(model: Path) -> None:
    check = TextCheck(model)
    check.train(["mail root@host", "plain"])
    assert dict(check("you@there")) == {}
    assert dict(check("you@there", trained=True)) == {"lifted": "'@' in 'you@there'"}
    assert dict(check("you_there")) == {"suppressed": "'_' in 'you_there'"}


def test_an_older_models_ban_stands_in_its_config(model: Path) -> None:
    (model / "generation_config.json").unlink()
    (model / "config.json").write_text(json.dumps({"suppress_tokens": [1]}))
    assert dict(TextCheck(model)("banana")) == {"suppressed": "'a' in 'banana'"}
    (model / "config.json").write_text(json.dumps({"suppress_tokens": None}))
    assert dict(TextCheck(model)("banana")) == {}


def test_a_ban_that_cannot_be_read_is_an_error(model: Path) -> None:
    (model / "generation_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"generation_config\.json or tokenizer\.json cannot be read"):
        TextCheck(model)


def manifest(folder: Path, name: str, *texts: str) -> Path:
    for i in range(len(texts)):
        (folder / f"{name}{i}.wav").write_bytes(f"{name}{i}".encode())
    lines = [json.dumps({"audio_filepath": f"{name}{i}.wav", "text": text}) for i, text in enumerate(texts)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder / f"{name}.jsonl"


def test_the_audit_knows_what_training_lifts(model: Path, tmp_path: Path) -> None:
    sources = [
        Source(manifest(tmp_path, "domain", "ann@home", "b_c"), "domain", "domain"),
        Source(manifest(tmp_path, "replay", "eve@work"), "replay", "replay"),
    ]
    found = audit(sources, listen=False, text_check=TextCheck(model))
    told = {(one.kind, one.where, one.line) for one in found.findings if one.kind in ("suppressed", "lifted")}
    assert told == {("suppressed", "domain", 2), ("lifted", "replay", 1)}


def test_check_names_them(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "check", str(manifest(tmp_path, "set", "c#")), "--no-audio", "--model", str(model)]) == 0
    assert "set:1: '#' in 'c#'" in capsys.readouterr().out


def test_a_text_is_spelled_as_the_family_has_its_targets(model: Path) -> None:
    """Whisper's first word begins with a space, as in its training, which is one more character here."""
    for model_type, kinds in (("moonshine", []), ("whisper", ["too_many_tokens"])):
        (model / "config.json").write_text(json.dumps({"max_target_positions": 30, "model_type": model_type}))
        assert [kind for kind, _ in TextCheck(model)("x" * 28)] == kinds
