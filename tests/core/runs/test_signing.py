"""Signatures over a run: consistent edits become visible, keys do not."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_run import FakeRun

from core.errors import RunFolderError
from core.runs.evidence import gather
from core.runs.paths import RunPaths
from core.runs.signing import ALLOWED_SIGNERS, SECRET, SSH_KEY, Keys, check, keys_from, sign
from core.runs.store import read_run
from core.scoring.criteria import integrity
from core.scoring.evidence import State

KEY = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32


@pytest.fixture
def run(fake_run: Callable[..., FakeRun]) -> RunPaths:
    paths: RunPaths = fake_run().good().paths
    return paths


def keys(**variables: str) -> Keys:
    return keys_from(variables)


def edit_alike(run: RunPaths) -> None:
    """Better figures in every place where they stand: consistent."""
    for file in (run.events, *run.evals.glob("*/domain.json")):
        file.write_text(file.read_text().replace('"substitutions": 180', '"substitutions": 150'))
    text = run.config.read_text()
    run.config.write_text(text.replace("0.0001", "0.0002"))


def test_a_signed_run_holds_and_says_who_signed_it(run: RunPaths) -> None:
    mine = keys(**{SECRET: KEY})
    sign(run, mine, "the trainer")
    found = check(run, mine)
    assert (found.problem, found.gap) == (None, None)
    assert found.summary.startswith("HMAC, signed by the trainer on 20")


def test_a_consistent_edit_is_seen_with_and_without_the_key(run: RunPaths) -> None:
    sign(run, keys(**{SECRET: KEY}), "the trainer")
    edit_alike(run)
    for given in (keys(**{SECRET: KEY}), keys()):
        problem = check(run, given).problem
        assert problem is not None and "changed since the run was signed" in problem


def test_a_statement_made_to_fit_the_edit_does_not_hold(run: RunPaths) -> None:
    sign(run, keys(**{SECRET: KEY}), "the trainer")
    kept = run.statement_hmac.read_bytes()
    edit_alike(run)
    sign(run, keys(**{SECRET: OTHER}), "the trainer")
    assert "not made with this" in (check(run, keys(**{SECRET: KEY})).problem or "")
    run.statement_hmac.write_bytes(kept)
    assert "not made with this" in (check(run, keys(**{SECRET: KEY})).problem or "")
    run.statement_hmac.unlink()
    assert "no signature that the given key" in (check(run, keys(**{SECRET: KEY})).problem or "")


def test_what_is_added_or_taken_away_is_seen(run: RunPaths) -> None:
    mine = keys(**{SECRET: KEY})
    sign(run, mine, "the trainer")
    file = run.evaluation(800, "heldout")
    text = file.read_bytes()
    file.unlink()
    assert "step-000800/heldout.json" in (check(run, mine).problem or "")
    file.write_bytes(text)
    assert check(run, mine).problem is None
    shutil.copytree(run.evals / "step-000800", run.evals / "step-000850")
    assert "step-000850" in (check(run, mine).problem or "")


def test_without_a_signature(run: RunPaths) -> None:
    assert check(run, keys()).gap == "signature: the run is not signed"
    assert "not signed, though a key" in (check(run, keys(**{SECRET: KEY})).problem or "")
    sign(run, keys(**{SECRET: KEY}), "the trainer")
    assert "no key here" in (check(run, keys()).gap or "")


def test_no_key_is_written_or_shown(run: RunPaths) -> None:
    mine = keys(**{SECRET: KEY})
    sign(run, mine, "the trainer")
    assert KEY not in repr(mine)
    assert all(KEY.encode() not in file.read_bytes() for file in run.root.rglob("*") if file.is_file())
    with pytest.raises(RunFolderError, match="shorter than 16") as caught:
        keys(**{SECRET: "secret"})
    assert '"secret"' not in str(caught.value)


def test_only_a_run_that_is_done_is_signed(fake_run: Callable[..., FakeRun]) -> None:
    with pytest.raises(RunFolderError, match="only a run that is done"):
        sign(fake_run().paths, keys(**{SECRET: KEY}), "me")
    with pytest.raises(RunFolderError, match="no key to sign with"):
        sign(fake_run("2-0123456789").good().paths, keys(), "me")


def test_a_bad_signature_fails_the_gate(run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(run, keys(**{SECRET: KEY}), "the trainer")
    monkeypatch.setenv(SECRET, KEY)
    assert integrity(gather(read_run(run), run).evidence).state is State.PASS
    edit_alike(run)
    found = integrity(gather(read_run(run), run).evidence)
    assert found.state is State.FAIL and "signature does not hold" in found.reason


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    """An SSH key and the file that allows it."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    for name in ("mine", "other"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        (tmp_path / f"{name}.allowed").write_text(f"{name}@example.org {(tmp_path / f'{name}.pub').read_text()}")
    return tmp_path


def test_an_ssh_signature(run: RunPaths, ssh: Path) -> None:
    sign(run, keys(**{SSH_KEY: str(ssh / "mine")}), "the trainer")
    allowed = keys(**{ALLOWED_SIGNERS: str(ssh / "mine.allowed")})
    assert check(run, allowed).summary.startswith("SSH key of mine@example.org, signed by the trainer")
    stranger = check(run, keys(**{ALLOWED_SIGNERS: str(ssh / "other.allowed")}))
    assert stranger.problem is not None and "signed by nobody in" in stranger.problem
    statement = json.loads(run.statement.read_text())
    run.statement.write_text(json.dumps(statement | {"signed_by": "somebody else"}))
    assert "not the signature of mine@example.org" in (check(run, allowed).problem or "")


def test_an_ssh_key_that_is_not_there(run: RunPaths, ssh: Path) -> None:
    with pytest.raises(RunFolderError, match="ssh-keygen cannot sign with it"):
        sign(run, keys(**{SSH_KEY: str(ssh / "none")}), "the trainer")
