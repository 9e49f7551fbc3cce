"""The model card of an adapter: what the hub and a reader find in it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from score_kit import edit

from core.errors import RunFolderError
from core.plan.exports import TARGETS, Target
from core.runs.adapter_files import adapter_hash
from core.runs.judged import judged
from core.runs.model_card import render, write_card
from core.runs.store import read_run
from core.scoring.evidence import Thresholds
from core.system.files import write_json

MakeRun = Callable[..., Any]


def with_settings(run: Any, model: str = "org/tiny", digest: str = "hub:org/tiny@main", title: str = "DoRA") -> Any:
    config = json.loads(run.paths.config.read_text())
    config["title"] = title
    config["settings"] |= {
        "model": {"id": model, "revision": None},
        "data": {"train": "/d/t.jsonl", "domain": "/home/me/shop.jsonl", "heldout": "/d/h.jsonl", "target_rms": 0.075},
        "adapter": {"method": "dora", "rank": 16, "alpha": 8.0, "target_modules": ["q_proj", "v_proj"]},
    }
    config["hashes"] = {"model": digest, "train": "ab" * 32, "domain": "cd" * 32, "heldout": "ef" * 32}
    config["lines"] = {}
    write_json(run.paths.config, config)
    for path in run.paths.evals.rglob("step-*/*.json"):
        edit(path, lambda document: document.update(manifest_sha256=config["hashes"][document["dataset"]]))
    for path in run.paths.tuned("domain").parent.glob("*.json"):
        edit(path, lambda document: document.update(manifest_sha256=config["hashes"][document["dataset"]]))
    if run.paths.result.exists():
        run.result()
    return run


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_card_of_an_export_says_how_it_is_used(target: Target, fake_run: MakeRun) -> None:
    run = with_settings(fake_run().good())
    found = judged(read_run(run.paths), Thresholds())
    text = render(found, target)
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == target.form.served_by
    assert front["base_model_relation"] in ("adapter", "merge", "quantized")
    assert f"an export of that adapter, {target}" in text and "Domain change" in text
    assert "--adapter ." not in text or target.form.name == "lora"


def test_the_hub_can_read_it(fake_run: MakeRun) -> None:
    hub = pytest.importorskip("huggingface_hub")
    run = with_settings(fake_run().good())
    before = adapter_hash(run.paths.best)
    file = write_card(run.paths)
    assert file == run.paths.best.resolve() / "README.md"
    assert adapter_hash(run.paths.best) == before, "the card is no part of the adapter's hash"
    card = hub.ModelCard.load(file)
    data = card.data
    assert (data.base_model, data.library_name, data.pipeline_tag) == (
        "org/tiny", "peft", "automatic-speech-recognition",
    )  # fmt: skip
    assert {"lora-tui", "dora"} <= set(data.tags)
    [domain, heldout] = data.eval_results
    assert (domain.dataset_name, domain.metric_type, domain.metric_value) == ("domain: shop.jsonl", "wer", 30.0)
    assert heldout.metric_value == 5.0


def test_a_reader_finds_figures_verdict_use_and_limits(fake_run: MakeRun) -> None:
    text = write_card(with_settings(fake_run().good()).paths).read_text()
    assert "| domain | 600 | 50.00 | 30.00 | 180 / 0 / 0 | \\[−" in text
    for found in (
        "## Verdict: ",
        "| Parity | PASS |",
        'config = transformers.AutoConfig.from_pretrained("org/tiny")',
        'getattr(transformers, config.architectures[0]).from_pretrained("org/tiny")',
        "## Limits",
        "identity 0123456789",
    ):
        assert found in text
    assert "/home/me" not in text, "folders of this machine are nobody's business"


def test_a_local_model_is_not_claimed_to_be_one_of_the_hub(fake_run: MakeRun) -> None:
    run = with_settings(fake_run().good(), "/home/me/base_model", "ab" * 32)
    text = write_card(run.paths).read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert "base_model" not in front and "in a local folder, base_model (hash abab" in text


def test_a_run_without_an_adapter_has_no_card(fake_run: MakeRun) -> None:
    run = fake_run()
    with pytest.raises(RunFolderError, match="no adapter there yet"):
        write_card(run.paths)


def test_a_card_is_never_written_out_of_the_run(fake_run: MakeRun, tmp_path: Path) -> None:
    run = with_settings(fake_run().good())
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "README.md").write_text("my own")
    run.paths.best.unlink()
    run.paths.best.symlink_to(theirs)
    with pytest.raises(RunFolderError, match="leads out of the run's adapters"):
        write_card(run.paths)
    run.paths.best.unlink()
    run.paths.best.symlink_to("adapters/step-009999")
    run.paths.adapter(9999).symlink_to(theirs)
    with pytest.raises(RunFolderError, match="a link"):
        write_card(run.paths)
    assert (theirs / "README.md").read_text() == "my own" and len(list(theirs.iterdir())) == 1


def test_a_run_that_goes_on_says_so(fake_run: MakeRun) -> None:
    run = with_settings(fake_run())
    run.start()
    run.interval(0, 300, 30)
    run.adapter(400)
    text = write_card(run.paths).read_text()
    assert "| domain | ? | 50.00 | ? | ? | not computed |" in text and "**The verdict is undecided**" in text


def test_no_text_breaks_it(fake_run: MakeRun) -> None:
    run = fake_run().good()  # one, whose figures are computed once

    @given(title=st.text(st.characters(exclude_categories=[])), model=st.text(st.characters(exclude_categories=["Cs"])))
    @settings(max_examples=25, deadline=None)
    def card(title: str, model: str) -> None:
        with_settings(run, model=model or "x", title=title)
        text = write_card(run.paths).read_text()
        front = yaml.safe_load(text.split("---\n")[1])
        assert front["base_model"] == (model or "x")
        body = text.split("---\n", 2)[2]
        assert "\x1b" not in body and body.count("```") == 4
        prose, code = body.split("```")[::2], body.split("```")[1]
        assert "<" not in "".join(prose)
        command = shlex.split(code)
        assert command[:-1] == ["lora-cli", "transcribe", "talk.wav", "--adapter", ".", "--model"]

    card()
