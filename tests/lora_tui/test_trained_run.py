"""A run that was really trained: signed by its trainer, judged by slices, and edited so that all its files agree."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trained_checkout import Trained
from waiting import DEADLINE_S

from core.runs.folder import inventory, sha256_of
from core.runs.paths import RunPaths

pytestmark = pytest.mark.heavy


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    """The checkout again, its run free to be edited."""
    folder = tmp_path / "repository"
    shutil.copytree(trained.folder, folder, symlinks=True)
    return folder


def lora_tui(folder: Path, key: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "LORA_TUI_SIGNING_KEY"}
    env |= {} if key is None else {"LORA_TUI_SIGNING_KEY": key}
    command = [sys.executable, "-m", "lora_tui", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def verify(folder: Path, key: str | None) -> subprocess.CompletedProcess[str]:
    [config] = folder.glob("runs/*/run.json")
    return lora_tui(folder, key, "verify", str(config.parent))


def lower_loss_everywhere(folder: Path) -> None:
    """A better loss at the last interval, in the event and in the score document, and in every hash over them."""
    [config] = folder.glob("runs/*/run.json")
    run = RunPaths(config.parent)
    told = json.loads(run.result.read_text())
    count = run.events.read_bytes()[: told["events"]["bytes"]].count(b"\n")
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    last = [line for line in lines if line["event"] == "interval"][-1]
    last["sets"]["domain"]["loss"] *= 0.5
    score = run.evaluation(last["step"], "domain")
    document = json.loads(score.read_text())
    document["loss"] = last["sets"]["domain"]["loss"]
    score.write_text(json.dumps(document))
    begun = "".join(json.dumps(line) + "\n" for line in lines[:count]).encode()
    told |= {"files": inventory(run), "events": {"bytes": len(begun), "sha256": hashlib.sha256(begun).hexdigest()}}
    run.result.write_text(json.dumps(told))
    lines[-1]["result"] = sha256_of(run.result)
    run.events.write_bytes(begun + "".join(json.dumps(line) + "\n" for line in lines[count:]).encode())


def test_the_trainer_signs_and_verify_says_so(trained: Trained) -> None:
    assert trained.code == 0
    with_key = verify(trained.folder, trained.key)
    assert with_key.returncode == 0, with_key.stdout
    assert "Signature: HMAC, signed by the trainer on 20" in with_key.stdout
    without = verify(trained.folder, None)
    assert without.returncode == 0 and "there is no key here" in without.stdout
    other = verify(trained.folder, "another secret, of somebody else")
    assert other.returncode == 1 and "not made with this" in other.stdout
    said = with_key.stdout + with_key.stderr + without.stdout + other.stdout
    texts = [file.read_bytes() for file in trained.run.rglob("*") if file.is_file()]
    assert trained.key not in said and not any(trained.key.encode() in text for text in texts)


def test_a_consistent_edit_is_seen_by_the_signature_alone(trained: Trained, copied: Path) -> None:
    lower_loss_everywhere(copied)
    found = verify(copied, trained.key)
    assert found.returncode == 1 and "changed since the run was signed" in found.stdout, found.stdout
    gate = ("--headless", "--gate", "--no-train")
    assert lora_tui(copied, trained.key, *gate).returncode == 1
    assert lora_tui(copied, None, *gate).returncode == 0, "nothing else can tell"
    [signature] = copied.glob("runs/*/signature")
    shutil.rmtree(signature)
    assert verify(copied, None).returncode == 0, "the edit is consistent"
    unsigned = verify(copied, trained.key)
    assert unsigned.returncode == 1 and "not signed" in unsigned.stdout
    assert lora_tui(copied, trained.key, *gate).returncode == 1


def test_each_slice_is_judged(trained: Trained, copied: Path) -> None:
    gate = ("--headless", "--gate", "--no-train", "--json")
    found = lora_tui(copied, trained.key, *gate)
    [criterion] = _slices(found.stdout)
    assert found.returncode == 0 and criterion["state"] == "PASS", criterion
    (copied / "experiments.toml").write_text(trained.plan(slice_pp=-100))
    found = lora_tui(copied, trained.key, *gate)
    [criterion] = _slices(found.stdout)
    assert found.returncode == 1 and criterion["state"] == "FAIL" and " s" in criterion["reason"]


def _slices(text: str) -> list[dict[str, Any]]:
    [row] = json.loads(text)["rows"]
    return [criterion for criterion in row["criteria"] if "duration" in criterion["title"].lower()]
