"""`[gate] runtime`: what an export's runtime made of the sets is judged, and believed no more than tuned scores are."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_run import FakeRun

from core.manifests.hashing import HashCache
from core.runs.exports import exports_of
from core.runs.judged import exports_found, judged
from core.runs.matrix import criteria_of
from core.runs.paths import RunPaths
from core.runs.signing import Keys, sign
from core.runs.store import read_run
from core.runs.verify import verify
from core.scoring.evidence import Criterion, Decision, State, Thresholds, Verdict
from core.system.files import read_json, write_json

SERVED = Thresholds(runtime="ct2:int8")


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "2.1-0123456789").good()


def verdict(run: FakeRun, thresholds: Thresholds = SERVED) -> Verdict:
    return judged(read_run(run.paths), thresholds).verdict


def runtime(run: FakeRun) -> Criterion:
    return verdict(run).criterion("runtime")


def edited(path: Path, **changes: Any) -> None:
    document, _ = read_json(path)
    assert document is not None
    write_json(path, document | changes)


def test_a_gate_that_names_no_runtime_has_six_criteria(run: FakeRun) -> None:
    run.exported(600, 600)
    found = verdict(run, Thresholds())
    assert (len(found.criteria), found.decision) == (6, Decision.ACCEPTED)


def test_without_the_export_the_run_is_undecided(run: FakeRun) -> None:
    run.exported(180, 30, target="hf:float32")
    found = verdict(run)
    assert found.decision is Decision.UNDECIDED
    assert found.criterion("runtime").reason == (
        "No export of this adapter as ct2:int8 was heard by its runtime: lora-cli export makes one."
    )


@pytest.mark.parametrize(
    ("domain", "heldout", "state", "said"),
    [
        (180, 30, State.PASS, "0 of 120 transcripts are not those that were judged"),
        (186, 30, State.PASS, "Domain WER 50.00 → 31.00 %, a change of −19.00 points"),
        (299, 30, State.FAIL, "a change of −0.17 points; −1 or less is asked for"),
        (180, 32, State.FAIL, "a change of +0.33 points; at most +0.2 is allowed"),
    ],
)
def test_gain_and_guardrail_must_hold_as_served(
    run: FakeRun, domain: int, heldout: int, state: State, said: str
) -> None:
    run.exported(domain, heldout)
    found = runtime(run)
    assert (found.state, said in found.reason) == (state, True), found.reason
    assert found.value == pytest.approx(max((domain - 180) / 6, (heldout - 30) / 6))
    accepted = Decision.ACCEPTED if state is State.PASS else Decision.REJECTED
    assert verdict(run).decision is accepted


def test_with_a_confidence_it_must_be_as_sure_as_served(run: FakeRun) -> None:
    run.exported(286, 30)  # a gain of 2.3 points in a few clips
    found = judged(read_run(run.paths), Thresholds(runtime="ct2:int8", confidence=0.95, unknown_speakers="a test"))
    assert found.verdict.criterion("domain_gain").state is State.PASS
    assert found.verdict.criterion("runtime").state is State.UNKNOWN
    assert "neither a PASS nor a FAIL at 95.0 %" in found.verdict.criterion("runtime").reason


def forged_figures(paths: RunPaths) -> None:
    """export.json says that nothing changed; the transcripts have lost the gain."""
    document, _ = read_json(paths.export("ct2-int8"))
    assert document is not None
    document["sets"]["domain"] |= {"changed": 0, "errors": 180, "rise_pp": 0.0}
    write_json(paths.export("ct2-int8"), document)


def forged_counts(paths: RunPaths) -> None:
    """The document counts fewer errors than its texts have, and export.json has its hash."""
    path = paths.served("ct2-int8", "domain")
    document, _ = read_json(path)
    assert document is not None
    for utterance in document["utterances"]:
        utterance["substitutions"] = min(utterance["substitutions"], 4)
    left = sum(utterance["substitutions"] for utterance in document["utterances"])
    write_json(path, document | {"counts": document["counts"] | {"substitutions": left}})
    export, _ = read_json(paths.export("ct2-int8"))
    assert export is not None
    export["sets"]["domain"] |= {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "errors": left,
        "rise_pp": (left - 180) / 6,
    }
    write_json(paths.export("ct2-int8"), export)


def edited_texts(paths: RunPaths) -> None:
    text = paths.served("ct2-int8", "domain").read_text()
    paths.served("ct2-int8", "domain").write_text(text.replace("wrong wrong", "wrong Wrong", 1))


def another_manifest(paths: RunPaths) -> None:
    path = paths.served("ct2-int8", "heldout")
    edited(path, manifest_sha256="cd" * 32)
    export, _ = read_json(paths.export("ct2-int8"))
    assert export is not None
    export["sets"]["heldout"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(paths.export("ct2-int8"), export)


def a_link(paths: RunPaths) -> None:
    there = paths.exports / "ct2-int8"
    shutil.move(there, paths.root.parent / "elsewhere")
    there.symlink_to(paths.root.parent / "elsewhere")


def a_pipe(paths: RunPaths) -> None:
    paths.export("ct2-int8").unlink()
    os.mkfifo(paths.export("ct2-int8"))


def one_set_only(paths: RunPaths) -> None:
    export, _ = read_json(paths.export("ct2-int8"))
    assert export is not None
    del export["sets"]["heldout"]
    write_json(paths.export("ct2-int8"), export)


def rewritten(paths: RunPaths, name: str, **changes: Any) -> None:
    """A document of the export, and its hash in export.json."""
    path = paths.served("ct2-int8", name)
    edited(path, **changes)
    export, _ = read_json(paths.export("ct2-int8"))
    assert export is not None
    export["sets"][name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(paths.export("ct2-int8"), export)


def tuned_copied(paths: RunPaths) -> None:
    """The scores of lora-cli evaluate in place of the runtime's: then nothing has changed."""
    for name in ("domain", "heldout"):
        document, _ = read_json(paths.tuned(name))
        assert document is not None
        rewritten(paths, name, **document)
        export, _ = read_json(paths.export("ct2-int8"))
        assert export is not None
        errors = document["counts"]["substitutions"]
        export["sets"][name] |= {"changed": 0, "errors": errors, "rise_pp": 0.0, "low_pp": 0.0, "high_pp": 0.0}
        write_json(paths.export("ct2-int8"), export)


FORGERIES: list[tuple[Callable[[RunPaths], None], str]] = [
    (lambda paths: edited(paths.export("ct2-int8"), files={}), "lists no file that was exported"),
    (
        lambda paths: edited(paths.export("ct2-int8"), files={"model.bin": {"bytes": 0, "sha256": "0"}}),
        "lists no file that was exported",
    ),
    (
        lambda paths: edited(
            paths.export("ct2-int8"),
            runtime={"name": "transformers", "version": "5", "device": "cpu", "precision": "int8_float32"},
        ),
        "was heard by 'transformers', and a ct2:int8 is heard by faster-whisper or ctranslate2",
    ),
    (
        lambda paths: edited(paths.export("ct2-int8"), files={"/etc/hostname": {"bytes": 1, "sha256": "0"}}),
        "lists '/etc/hostname', which leads out of the export",
    ),
    *(
        (
            lambda paths, name=name: edited(paths.export("ct2-int8"), files={name: {"bytes": 1, "sha256": "0"}}),
            "which no file can be called",
        )
        for name in ("a\0b", "\ud800/x", "x" * 256, "y/" * 2000)
    ),
    (lambda paths: edited(paths.export("ct2-int8"), folder=f"/{'x' * 5000}"), "which no file can be called"),
    (tuned_copied, "is no score of the runtime that export.json names"),
    (lambda paths: rewritten(paths, "domain", fingerprint="another"), "is no score of the runtime"),
    (lambda paths: rewritten(paths, "domain", device="cuda"), "is no score of the runtime"),
    (forged_figures, "its changed of domain is 0, the transcripts give"),
    (forged_counts, "its counts say 4 errors in 10 words, its texts 10 in 10"),
    (edited_texts, "changed since the export was judged"),
    (another_manifest, "does not compare with the baseline, which has another manifest_sha256"),
    (one_set_only, "says nothing of heldout"),
    (lambda paths: paths.served("ct2-int8", "domain").unlink(), "missing"),
    (lambda paths: edited(paths.export("ct2-int8"), adapter_hash="0" * 64), "is of another adapter"),
    (
        lambda paths: edited(paths.export("ct2-int8"), target="ct2:float32"),
        "is of ct2:float32, in the folder of ct2-int8",
    ),
    (lambda paths: edited(paths.export("ct2-int8"), schema=9), "schema 9"),
    (lambda paths: edited(paths.export("ct2-int8"), sets=[]), "Expected `object`, got `array`"),
    (lambda paths: paths.export("ct2-int8").write_text("{"), "not JSON"),
    (lambda paths: paths.export("ct2-int8").write_text('{"a": NaN}'), "not JSON"),
    (lambda paths: paths.export("ct2-int8").write_bytes(b"[" * 100_000), "nested too deep"),
    (lambda paths: os.truncate(paths.export("ct2-int8"), 1 << 40), "larger than"),
    (a_link, "a link, or no folder"),
    (a_pipe, "cannot be read"),
]


@pytest.mark.parametrize(("forge", "said"), FORGERIES)
def test_what_is_forged_or_broken_is_no_evidence(run: FakeRun, forge: Callable[[RunPaths], None], said: str) -> None:
    run.exported(290, 30)
    forge(run.paths)
    found = judged(read_run(run.paths), SERVED)
    criterion = found.verdict.criterion("runtime")
    assert (criterion.state, said in criterion.reason) == (State.UNKNOWN, True), criterion.reason
    assert found.verdict.decision is Decision.UNDECIDED
    verify(run.paths, HashCache(run.paths.root.parent / "hashes"), Keys())


def test_the_reason_says_what_heard_it(run: FakeRun) -> None:
    run.exported(180, 30)
    assert runtime(run).reason.startswith("As ct2:int8, by faster-whisper 1.2.1 on cpu in int8_float32: Domain WER")


def test_transcripts_that_the_runtime_s_cap_has_cut_are_no_evidence(run: FakeRun) -> None:
    run.exported(180, 30)
    rewritten(run.paths, "heldout", capped=["clip40"])
    found = runtime(run)
    assert found.state is State.UNKNOWN
    assert "1 of 60 transcripts of the adapter on heldout reached their token cap" in found.reason


def test_a_file_full_of_holes_is_not_read(run: FakeRun, tmp_path: Path) -> None:
    """It says whatever size export.json does, and would be hashed for minutes."""
    folder = run.exported(180, 30)
    os.truncate(folder / "model.bin", 100 << 30)
    document, _ = read_json(run.paths.export("ct2-int8"))
    assert document is not None
    document["files"]["model.bin"]["bytes"] = 100 << 30
    write_json(run.paths.export("ct2-int8"), document)
    assert _of_export(run, tmp_path) == [f"{folder}/model.bin: full of holes, which no export is"]


def test_verify_names_the_file_of_an_export_that_was_edited(run: FakeRun, tmp_path: Path) -> None:
    folder = run.exported(186, 30)
    assert _of_export(run, tmp_path) == []
    (folder / "model.bin").write_bytes(b"Weights")
    (folder / "config.json").unlink()
    (folder / "vocabulary.json").write_text("{}")
    assert _of_export(run, tmp_path) == [
        f"{folder}/config.json: missing since the export was judged",
        f"{folder}/model.bin: changed since the export was judged",
        f"{folder}/vocabulary.json: was not there when the export was judged",
    ]
    shutil.rmtree(folder)
    assert _of_export(run, tmp_path) == []
    unchecked = verify(run.paths, HashCache(tmp_path / "hashes"), Keys()).unchecked
    assert f"export ct2:int8: its folder is not on this machine ({folder}), so no file was hashed" in unchecked


def test_verify_computes_the_interval_again(run: FakeRun, tmp_path: Path) -> None:
    run.exported(186, 30)
    document, _ = read_json(run.paths.export("ct2-int8"))
    assert document is not None
    document["sets"]["domain"]["high_pp"] = 0.0
    write_json(run.paths.export("ct2-int8"), document)
    [problem] = _of_export(run, tmp_path)
    assert "its high_pp of domain is 0.0, the transcripts give" in problem


def test_an_export_that_names_files_outside_of_it_is_a_problem(run: FakeRun, tmp_path: Path) -> None:
    run.exported(186, 30)
    document, _ = read_json(run.paths.export("ct2-int8"))
    assert document is not None
    document["files"] |= {"../2.1-0123456789/run.json": {"bytes": 1, "sha256": "0"}}
    write_json(run.paths.export("ct2-int8"), document)
    assert any("leads out of the export" in problem for problem in _of_export(run, tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folder": "/"}, "missing since the export was judged"),
        ({"folder": "/", "files": {"etc/hostname": {"bytes": 1 << 50, "sha256": "0"}}}, "which no export has"),
        ({"files": {str(number): {"bytes": 1, "sha256": "0"} for number in range(10_001)}}, "which no export has"),
        ({"folder": "relative"}, None),
    ],
)
def test_a_forged_list_of_files_costs_no_time(
    run: FakeRun, changes: dict[str, Any], said: str | None, tmp_path: Path
) -> None:
    run.exported(186, 30)
    edited(run.paths.export("ct2-int8"), **changes)
    found = _of_export(run, tmp_path)
    assert (any(said in problem for problem in found), len(found) < 50) == (True, True) if said else found == []


def _of_export(run: FakeRun, tmp_path: Path) -> list[str]:
    problems = verify(run.paths, HashCache(tmp_path / "hashes"), Keys()).problems
    return [problem for problem in problems if "export" in problem]


def test_what_is_exported_after_the_run_was_signed_is_signed_again(
    run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(secret=b"a secret of sixteen bytes")
    monkeypatch.setenv("LORA_TUI_SIGNING_KEY", "a secret of sixteen bytes")
    sign(run.paths, keys, "a test")
    run.exported(180, 30)
    assert verdict(run, Thresholds()).decision is Decision.ACCEPTED
    assert "made after the run was signed" in runtime(run).reason
    sign(run.paths, keys, "a test")
    assert runtime(run).state is State.PASS
    run.exported(181, 30)
    assert verdict(run).criterion("integrity").state is State.FAIL


def test_exports_are_listed_and_the_matrix_has_a_column_only_where_a_gate_asks(run: FakeRun) -> None:
    assert exports_of(run.paths) == []
    run.exported(180, 30)
    assert exports_of(run.paths) == ["ct2-int8"]
    assert "runtime" not in criteria_of([])


def test_the_names_of_targets_are_those_of_the_plan(tmp_path: Path) -> None:
    from core.plan.exports import TARGETS, form_of, target_of

    assert {str(target) for target in TARGETS} >= {"hf:float32", "lora:float32", "ct2:int8", "ct2:float16"}
    assert all(target_of(target.name) == target == target_of(str(target)) for target in TARGETS)
    assert target_of("ggml:int8") is None and form_of("ggml") is not None
    assert json.dumps(Thresholds().runtime) == "null"


def test_a_report_lists_exports_that_the_gate_does_not_ask_for(run: FakeRun) -> None:
    assert exports_found(judged(read_run(run.paths), Thresholds())) == ()
    folder = run.exported(186, 30)
    (run.paths.exports / "of another tool").mkdir()
    (run.paths.exports / "of another tool" / "file").touch()
    assert exports_found(judged(read_run(run.paths), Thresholds())) == (
        (
            "ct2:int8",
            "domain 1 of 60 transcripts changed, WER +1.00 points; heldout 0 of 60 transcripts changed, WER +0.00 "
            f"points; heard by faster-whisper 1.2.1 on cpu in int8_float32; written to {folder}",
        ),
    )
    forged_figures(run.paths)
    [(name, said)] = exports_found(judged(read_run(run.paths), Thresholds()))
    assert name == "ct2:int8" and said.startswith("not believed: ") and "the transcripts give" in said


def test_documents_that_cannot_be_written_whole_are_not_left_in_half(
    run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(root: Path, path: Path, value: Any) -> None:
        if path.name == "heldout.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_json(path, value)

    monkeypatch.setattr("core.runs.exports.write_json", full)
    with pytest.raises(OSError, match="No space left"):
        run.exported(186, 30)
    assert exports_of(run.paths) == []
