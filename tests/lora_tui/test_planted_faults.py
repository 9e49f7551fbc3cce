"""Faults planted into an accepted run: none of them passes the gate, and `lora-tui verify` names each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder
from score_kit import made_consistent

from core.errors import ExitCode
from core.queue.__main__ import supervise
from core.runs.folder import inventory, replace_link
from core.runs.paths import RunPaths
from core.runs.position import write_positions
from core.system.files import write_json
from core.system.seals import with_checksum
from lora_tui.__main__ import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> PlanFolder:
    """A folder with one run, `a`, that the gate accepts; a copy of it lies beside it."""
    folder = PlanFolder(tmp_path_factory.mktemp("accepted") / "folder")
    folder.write()
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    write_positions(folder.run("a"))
    made_consistent(folder.run("a"))
    shutil.copytree(folder.root, folder.root.with_name("copy"), symlinks=True)
    return folder


@pytest.fixture
def accepted(untouched: PlanFolder) -> PlanFolder:
    """The folder as it was made, whatever the test before did to it."""
    shutil.rmtree(untouched.root)
    shutil.copytree(untouched.root.with_name("copy"), untouched.root, symlinks=True)
    return untouched


def gate(folder: PlanFolder, *arguments: str) -> int:
    runs = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    return main(["--headless", str(folder.plan), *runs, "--gate", "--no-train", *arguments])


def edit(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def edit_events(run: RunPaths, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    kept = [line for line in map(change, lines) if line is not None]
    run.events.write_text("".join(json.dumps(line) + "\n" for line in kept))


def nan_wer(run: RunPaths) -> None:
    """NaN in place of an error count, in the tuned score."""
    edit(run.tuned("domain"), lambda d: d["counts"].update(substitutions=float("nan")))


def nan_loss(run: RunPaths) -> None:
    """NaN in place of a loss, in an interval's event."""

    def change(line: dict[str, Any]) -> dict[str, Any]:
        if line["event"] == "interval" and line["step"] == 10:
            line["sets"]["domain"]["loss"] = float("nan")
        return line

    edit_events(run, change)


def swapped_adapter(run: RunPaths) -> None:
    """Other weights where the best adapter was."""
    (run.best / "adapter_model.safetensors").write_bytes(b"other weights")


def swapped_link(run: RunPaths) -> None:
    """lora_adapter_best leads to an adapter that was not scored."""
    replace_link(run.root, run.best, f"adapters/{run.adapter(20).name}")


def linked_evaluations(run: RunPaths) -> None:
    """The evaluations lie outside of the run folder, whole, behind a link."""
    run.evals.rename(run.root.parents[1] / "elsewhere")
    run.evals.symlink_to(run.root.parents[1] / "elsewhere")


def linked_interval(run: RunPaths) -> None:
    run.evaluation(0, "domain").parent.rename(run.root.parents[1] / "elsewhere")
    run.evaluation(0, "domain").parent.symlink_to(run.root.parents[1] / "elsewhere")


def edited_sum(run: RunPaths) -> None:
    """A lower sum of errors than the utterances have."""
    edit(run.tuned("domain"), lambda d: d["counts"].update(substitutions=10))


def edited_utterances(run: RunPaths) -> None:
    """Counts that agree with each other, but not with the texts; in the trainer's own document too."""

    def change(document: Any) -> None:
        document["utterances"][0]["substitutions"] -= 1
        document["counts"]["substitutions"] -= 1

    edit(run.tuned("heldout"), change)


def edited_texts(run: RunPaths) -> None:
    """Transcripts and counts of the tuned score made better: not what the trainer heard."""

    def change(document: Any) -> None:
        for utterance in document["utterances"]:
            document["counts"]["substitutions"] -= utterance["substitutions"]
            utterance.update(hypothesis=utterance["reference"], substitutions=0)

    edit(run.tuned("domain"), change)


def missing_interval(run: RunPaths) -> None:
    """An interval that the settings promise is not in the events."""
    edit_events(run, lambda line: None if line["event"] == "interval" and line["step"] == 15 else line)


def missing_tuned_score(run: RunPaths) -> None:
    run.tuned("heldout").unlink()


def other_data(run: RunPaths) -> None:
    """The tuned score is of another manifest than the baseline."""
    edit(run.tuned("domain"), lambda d: d.update(manifest_sha256="00" * 32))


def half_written(run: RunPaths) -> None:
    text = run.tuned("domain").read_text()
    run.tuned("domain").write_text(text[: len(text) // 2])


def edited_result(run: RunPaths) -> None:
    """result.json tells of another adapter."""
    edit(run.result, lambda d: d.update(adapter_hash="00" * 32))


def edited_settings(run: RunPaths) -> None:
    """run.json tells of another learning rate."""
    edit(run.config, lambda d: d["settings"]["train"].update(learning_rate=1e-5))


def fewer_intervals_promised(run: RunPaths) -> None:
    """An interval is missing, and run.json was edited to promise fewer."""
    missing_interval(run)
    edit(run.config, lambda d: d["settings"]["train"].update(eval_every=10))


def edited_audit(run: RunPaths) -> None:
    edit(run.data_health, lambda d: d["sets"][0].update(clips=51))


def every_score(run: RunPaths, change: Callable[[Any], None], *, of: str = "") -> None:
    """Change all score documents of the run alike; `of`: a part of their paths."""
    for path in sorted(run.evals.rglob("*.json")):
        if path.name in ("domain.json", "heldout.json") and of in str(path):
            edit(path, change)


def renamed_speakers(document: Any) -> None:
    for utterance in document["utterances"]:
        utterance["speaker"] = "s0"


def other_speakers_of_the_base_model(run: RunPaths) -> None:
    """Only `speaker` in the step-0 documents: all that slices and blocks were taken from."""
    every_score(run, renamed_speakers, of="step-000000")


def other_seconds(run: RunPaths) -> None:
    """A clip's length, which slices by duration go by, in the step-0 document."""
    edit(run.evaluation(0, "heldout"), lambda d: d["utterances"][3].update(seconds=9.0))


def other_fields(run: RunPaths) -> None:
    edit(run.evaluation(0, "heldout"), lambda d: d["utterances"][3]["fields"].update(room="hall"))


def left_out_clips(run: RunPaths) -> None:
    """The hard half of heldout is gone, from base and tuned score alike."""

    def change(document: Any) -> None:
        document["utterances"] = document["utterances"][::2]
        document["counts"] = {name: count // 2 for name, count in document["counts"].items()}

    for path in (run.evaluation(0, "heldout"), run.tuned("heldout")):
        edit(path, change)


def other_reference(run: RunPaths) -> None:
    """What was said is edited to what the tuned model hears, in base and tuned score alike."""
    for path in (run.evaluation(0, "domain"), run.tuned("domain")):
        edit(path, lambda d: d["utterances"][0].update(reference="b " * 4 + "domain " * 16))


def baseline_of_another_set(run: RunPaths) -> None:
    """The step-0 document of heldout in the place of that of domain."""
    shutil.copy(run.evaluation(0, "heldout"), run.evaluation(0, "domain"))
    edit(run.evaluation(0, "domain"), lambda d: d.update(dataset="domain"))


def worse_base_model(run: RunPaths) -> None:
    """The base model heard nothing right: texts, counts and event say so alike."""
    for name in ("domain",):

        def change(document: Any) -> None:
            for utterance in document["utterances"]:
                utterance.update(hypothesis="b " * 20, substitutions=20)
            document["counts"]["substitutions"] = 1000

        edit(run.evaluation(0, name), change)

    def event(line: dict[str, Any]) -> dict[str, Any]:
        if line["event"] == "interval" and line["step"] == 0:
            line["sets"]["domain"]["substitutions"] = 1000
        return line

    edit_events(run, event)


def deaf_adapter(run: RunPaths) -> None:
    """The shipped adapter would stop after a word or two, whatever was said; the weights are those that were scored."""
    edit(run.best / "reproduce.json", lambda d: d.update(tokens_per_second=0.3))


def louder_adapter(run: RunPaths) -> None:
    """Possible facts, but not those that the adapter was scored under."""
    edit(run.best / "reproduce.json", lambda d: d.update(target_rms=0.2))


def no_facts(run: RunPaths) -> None:
    (run.best / "reproduce.json").unlink()


def facts_that_nothing_covers(run: RunPaths) -> None:
    """As an earlier version saved it: the hash says nothing of the facts."""

    def change(document: Any) -> None:
        del document["hash_version"]
        document.update(tokens_per_second=1.5)

    edit(run.best / "reproduce.json", change)


def edited_position(run: RunPaths) -> None:
    edit(run.position, lambda d: d.update(positions=[]))


def edited_lines(run: RunPaths) -> None:
    """run.json tells of other speakers."""
    edit(run.config, lambda d: d["lines"].update(domain="00" * 32))


def unlisted_files(run: RunPaths) -> None:
    """result.json does not say what the run's files were."""
    edit(run.result, lambda d: d.pop("files"))


def another_list_of_files(run: RunPaths) -> None:
    """A score is edited, and the list in result.json with it."""
    other_speakers_of_the_base_model(run)
    edit(run.result, lambda d: d.update(files=inventory(run)))


CODES: dict[Callable[[RunPaths], None], ExitCode] = {
    nan_wer: ExitCode.UNDECIDED,
    nan_loss: ExitCode.UNDECIDED,
    swapped_adapter: ExitCode.REJECTED,
    swapped_link: ExitCode.REJECTED,
    linked_evaluations: ExitCode.UNDECIDED,
    linked_interval: ExitCode.UNDECIDED,
    edited_sum: ExitCode.UNDECIDED,
    edited_utterances: ExitCode.UNDECIDED,
    edited_texts: ExitCode.REJECTED,
    missing_interval: ExitCode.UNDECIDED,
    missing_tuned_score: ExitCode.UNDECIDED,
    other_data: ExitCode.UNDECIDED,
    half_written: ExitCode.UNDECIDED,
    edited_result: ExitCode.REJECTED,
    edited_settings: ExitCode.REJECTED,
    fewer_intervals_promised: ExitCode.REJECTED,
    edited_audit: ExitCode.UNDECIDED,
    other_speakers_of_the_base_model: ExitCode.UNDECIDED,
    other_seconds: ExitCode.UNDECIDED,
    other_fields: ExitCode.UNDECIDED,
    left_out_clips: ExitCode.UNDECIDED,
    other_reference: ExitCode.UNDECIDED,
    baseline_of_another_set: ExitCode.UNDECIDED,
    worse_base_model: ExitCode.UNDECIDED,
    deaf_adapter: ExitCode.REJECTED,
    louder_adapter: ExitCode.REJECTED,
    no_facts: ExitCode.REJECTED,
    facts_that_nothing_covers: ExitCode.REJECTED,
    edited_position: ExitCode.UNDECIDED,
    edited_lines: ExitCode.REJECTED,
    unlisted_files: ExitCode.UNDECIDED,
    another_list_of_files: ExitCode.UNDECIDED,
}
"""What the gate says of each."""


def test_without_a_fault_the_run_is_accepted_and_consistent(accepted: PlanFolder, capsys: Capture) -> None:
    assert gate(accepted) == 0
    assert main(["verify", str(accepted.run("a").root)]) == 0
    out = capsys.readouterr().out
    assert "consistent; the run is accepted (exit 0)" in out and "Evaluation batches: domain fake, heldout fake" in out
    assert "Libraries: not recorded" in out and "lora-cli evaluate" in out


@pytest.mark.parametrize(("fault", "code"), CODES.items(), ids=lambda value: getattr(value, "__name__", None))
def test_no_fault_passes_and_verify_names_it(
    accepted: PlanFolder, fault: Callable[[RunPaths], None], code: ExitCode, capsys: Capture
) -> None:
    fault(accepted.run("a"))
    assert gate(accepted) == code
    assert gate(accepted, "--set", "gate.confidence=0.95") == code
    assert main(["verify", str(accepted.run("a").root)]) == 1
    out = capsys.readouterr().out
    # Transcripts that are not the trainer's own are what parity is for: files that agree, and a verdict that rejects.
    assert ("problem: " in out and "INCONSISTENT" in out) or "FAIL  Parity" in out


CONSISTENT: dict[Callable[[RunPaths], None], str] = {
    other_speakers_of_the_base_model: "are not those that run.json records of the manifest",
    other_seconds: "utterance",
    other_reference: "are not those that run.json records of the manifest",
    left_out_clips: "are not those that run.json records of the manifest",
    baseline_of_another_set: "its manifest_sha256 is",
    lambda run: every_score(run, renamed_speakers): "are not those that run.json records of the manifest",
    lambda run: every_score(run, lambda d: d["utterances"][0]["fields"].update(x=1)): "are not those that run.json",
    lambda run: every_score(run, lambda d: d["utterances"][0].update(id="other"), of="tuned"): "has another id",
    lambda run: every_score(run, lambda d: d["utterances"][0].update(seconds=9.0), of="step-000015"): "another seconds",
    lambda run: every_score(run, lambda d: d.update(loss=0.1), of="step-000015"): "its loss is 0.1",
    lambda run: every_score(run, lambda d: d.update(step=15), of="step-000010"): "its step is 15",
    deaf_adapter: "tokens_per_second = 0.3 cannot be",
    louder_adapter: "its target_rms is 0.2",
}
"""Faults of somebody who also edits all that lists and vouches for files, and what verify says of them."""


@pytest.mark.parametrize("fault", CONSISTENT, ids=lambda fault: fault.__name__)
def test_nor_does_one_with_the_lists_of_files_edited_alike(
    accepted: PlanFolder, fault: Callable[[RunPaths], None], capsys: Capture
) -> None:
    run = accepted.run("a")
    fault(run)
    made_consistent(run)
    assert gate(accepted) != ExitCode.ACCEPTED
    assert gate(accepted, "--set", "gate.confidence=0.95") != ExitCode.ACCEPTED
    assert main(["verify", str(run.root)]) == 1
    out = capsys.readouterr().out
    assert CONSISTENT[fault] in out and "changed since the run ended" not in out


def test_a_deleted_figure_is_computed_again_and_a_missing_order_is_named(accepted: PlanFolder, capsys: Capture) -> None:
    run = accepted.run("a")
    assert gate(accepted) == 0
    for file in run.evals.glob("significance-*.json"):
        file.unlink()
    forget_what_this_process_knows()
    assert gate(accepted) == 0 and len(list(run.evals.glob("significance-*.json"))) == 1
    run.position.unlink()
    assert main(["verify", str(run.root)]) == 1
    out = capsys.readouterr().out
    assert "position.json: missing, though it was there when the run ended" in out
    assert "not checked: order of the sets: there is no position.json" in out


def test_speakers_named_after_the_run_do_not_pass_for_those_it_was_scored_with(
    accepted: PlanFolder, capsys: Capture
) -> None:
    manifest = accepted.root / "heldout.jsonl"
    manifest.write_text(manifest.read_text().replace('"s0"', '"somebody"'))
    assert main(["verify", str(accepted.run("a").root)]) == 1
    assert "speakers or fields of heldout are not those that the run was made with" in capsys.readouterr().out
    said = f"data.heldout: speakers or fields of {manifest} are not those that the run was scored with"
    assert gate(accepted) == ExitCode.ACCEPTED, "no WER over the whole set is another"
    assert said in capsys.readouterr().err
    assert gate(accepted, "--set", "gate.confidence=0.95") == ExitCode.UNDECIDED
    assert said in capsys.readouterr().err


def test_a_run_of_an_earlier_version_is_undecided_and_says_why(accepted: PlanFolder, capsys: Capture) -> None:
    """Its documents lack what is needed now: schema 1, no list of files, no facts in the hash."""
    run = accepted.run("a")

    def older(document: Any) -> None:
        document["schema"] = 1
        for utterance in document["utterances"]:
            for name in ("offset", "duration", "channel"):
                del utterance[name]

    every_score(run, older)
    edit(run.result, lambda d: [d.pop(name) for name in ("files", "events", "lines")])
    edit(run.config, lambda d: d.pop("lines"))
    edit_events(run, lambda line: {key: value for key, value in line.items() if key != "result"})
    assert gate(accepted) == ExitCode.UNDECIDED
    assert main(["verify", str(run.root)]) == 1
    out = capsys.readouterr().out
    assert "schema 1, not 2: scored by another version" in out
    assert "does not say what the run's files were, as runs of earlier versions do not" in out


def test_an_audit_of_another_method_is_made_anew(accepted: PlanFolder, capsys: Capture) -> None:
    run = accepted.run("a")
    assert main(["verify", str(run.root)]) == 0
    assert "made anew, and only sizes and leakage were compared" in capsys.readouterr().out

    def change(document: Any) -> None:
        document["sets"][1]["clips"] = 3

    health = json.loads(run.data_health.read_text())
    change(health)
    write_json(run.data_health, with_checksum({key: value for key, value in health.items() if key != "checksum"}))
    made_consistent(run)
    assert main(["verify", str(run.root)]) == 1
    assert "its sets are not those that an audit of the run's sets finds" in capsys.readouterr().out
    (accepted.root / "domain.jsonl").unlink()
    main(["verify", str(run.root)])
    assert "audit of the data: taken as recorded (domain not on this machine)" in capsys.readouterr().out


def test_a_run_without_its_audit_is_undecided(accepted: PlanFolder) -> None:
    accepted.run("a").data_health.unlink()
    assert gate(accepted) == ExitCode.UNDECIDED
    assert main(["verify", str(accepted.run("a").root)]) == ExitCode.UNDECIDED


def forge(run: RunPaths, change: Callable[[Any], None]) -> None:
    """Edit what is stored of how sure the WERs are; sealed as somebody without this machine's key can."""
    from core.runs.significance import _bytes
    from core.system.seals import name_of, seal

    for file in run.evals.glob("significance-*.json"):

        def forged(document: Any) -> None:
            change(document["significance"])
            names = [*document["seals"], name_of(b"k" * 32)]
            document["seals"] = {name: seal(b"k" * 32, _bytes(document["significance"])) for name in names}

        edit(file, forged)


def planted_certainty(run: RunPaths) -> None:
    """What is stored of how sure the WERs are, with a seal that is not this machine's."""
    forge(run, lambda content: content["domain"].update(low_pp=content["domain"]["low_pp"] + 1.0))


def edited_own_score(run: RunPaths) -> None:
    """The trainer's own document of an interval no longer is what its event says."""

    def change(document: Any) -> None:
        document["utterances"][0]["substitutions"] -= 1
        document["counts"]["substitutions"] -= 1

    edit(run.evaluation(15, "domain"), change)


def other_audio(run: RunPaths) -> None:
    """The domain set's audio is another by now."""
    audio = Path(json.loads(run.config.read_text())["settings"]["data"]["domain"]).with_suffix(".wav")
    audio.write_bytes(audio.read_bytes()[:-2] + b"zz")


def removed_result(run: RunPaths) -> None:
    run.result.unlink()


def junk_in_events(run: RunPaths) -> None:
    """A line in the middle, and one at the end that a trainer's death did not tear."""
    first, *rest = run.events.read_text().splitlines(keepends=True)
    run.events.write_text("".join([first, "junk\n", *rest, '{"event": "step", "att\n']))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (removed_result, "result.json: missing, though the events say that the run is finished"),
        (junk_in_events, "events.jsonl: line 2 is no event that a trainer writes, nor is 1 more"),
        (planted_certainty, "what is stored of how sure"),
        (edited_own_score, "step-000015/domain.json"),
        (other_audio, "the content of domain is not"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_verify_finds_what_the_verdict_does_not_look_at(
    accepted: PlanFolder, fault: Callable[[RunPaths], None], says: str, capsys: Capture
) -> None:
    gate(accepted)
    fault(accepted.run("a"))
    capsys.readouterr()
    assert main(["verify", str(accepted.run("a").root), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["consistent"] is False and document["exit_code"] == 1
    assert any(says in problem for problem in document["problems"])


def test_a_torn_last_line_is_no_fault(accepted: PlanFolder) -> None:
    run = accepted.run("a")
    with run.events.open("a") as file:
        file.write('{"event": "heartbeat", "att')
    assert main(["verify", str(run.root)]) == 0


def test_verify_accepts_no_run_that_has_not_ended(accepted: PlanFolder, capsys: Capture) -> None:
    run = accepted.run("a")
    run.result.unlink()
    edit_events(run, lambda line: None if line["event"] == "final" else line)
    assert main(["verify", str(run.root)]) == gate(accepted) == ExitCode.UNDECIDED
    assert "not checked: the run has not ended (crashed)" in capsys.readouterr().out


def test_verify_says_what_it_cannot_hash_again(accepted: PlanFolder, capsys: Capture) -> None:
    for name in ("domain.wav", "train.jsonl"):
        (accepted.root / name).unlink()
    shutil.rmtree(accepted.root / "model")
    assert main(["verify", str(accepted.run("a").root)]) == 0
    out = capsys.readouterr().out
    assert "not checked: domain: only its lines were compared, it cannot be hashed here" in out
    assert "not checked: model: not on this machine" in out and "not checked: train: not on" in out


def test_verify_without_a_run_exits_4(tmp_path: Path, capsys: Capture) -> None:
    assert main(["verify", str(tmp_path)]) == 4
    assert "no run folder" in capsys.readouterr().err


def test_edits_that_are_consistent_are_seen_in_a_signed_run(
    accepted: PlanFolder, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words in the log that nothing else holds, here a step's loss: only the signature can tell."""
    run = accepted.run("a")
    monkeypatch.setenv("LORA_TUI_SIGNING_KEY", "k" * 32)
    assert main(["verify", str(run.root)]) == 1, "not signed, though there is a key"
    assert main(["verify", str(run.root), "--sign"]) == 0
    assert "Signature: HMAC, signed by lora-tui verify --sign on 20" in capsys.readouterr().out
    assert gate(accepted) == 0

    def change(line: dict[str, Any]) -> dict[str, Any]:
        return line | {"loss": 0.001} if line["event"] == "step" else line

    edit_events(run, change)
    monkeypatch.delenv("LORA_TUI_SIGNING_KEY")
    assert gate(accepted) == ExitCode.UNDECIDED, "result.json knows the events that it was written after"
    made_consistent(run)
    assert gate(accepted) == 0, "without a key the gate does not look"
    monkeypatch.setenv("LORA_TUI_SIGNING_KEY", "k" * 32)
    assert gate(accepted) == 1
    capsys.readouterr()
    assert main(["verify", str(run.root)]) == 1
    out = capsys.readouterr().out
    assert "events.jsonl (and 1 more): changed since the run was signed" in out and "k" * 32 not in out
    swapped_adapter(run)
    assert main(["verify", str(run.root), "--sign"]) == 4, "what is not consistent is not signed"


def forget_what_this_process_knows() -> None:
    """As a new process would begin."""
    from core.runs import significance

    significance._assess.cache_clear()


def test_a_forged_figure_turns_no_verdict(accepted: PlanFolder, capsys: Capture) -> None:
    """A threshold that the run meets by so little that it is unsure, and stored figures that say it is sure."""
    run = accepted.run("a")
    sure = ("--set", "gate.confidence=0.95", "--json")
    capsys.readouterr()
    gate(accepted, *sure)
    [criterion] = [c for c in json.loads(capsys.readouterr().out)["rows"][0]["criteria"] if c["name"] == "domain_gain"]
    near = ("--set", f"gate.domain_gain={criterion['certainty']['corrected_pp']:.3f}", *sure)
    assert gate(accepted, *near) == ExitCode.UNDECIDED

    def surest(content: Any) -> None:
        for name in ("domain", "heldout"):
            content[name].update(probability=1.0)

    forge(run, surest)
    forget_what_this_process_knows()
    assert gate(accepted, *near) == ExitCode.UNDECIDED


def test_a_stored_figure_hides_no_edited_count(accepted: PlanFolder) -> None:
    """Counts better than their texts, and stored figures under the hash of the edited documents."""
    run = accepted.run("a")
    assert gate(accepted) == 0
    [honest] = run.evals.glob("significance-*.json")
    document = json.loads(honest.read_text())
    edited_utterances(run)
    forget_what_this_process_knows()
    plant(run, document)
    forge(run, lambda content: None)
    assert gate(accepted) == ExitCode.UNDECIDED
    forget_what_this_process_knows()
    assert gate(accepted, "--set", "gate.confidence=0.95") == ExitCode.UNDECIDED


def plant(run: RunPaths, document: Any) -> None:
    """`document` as what is stored for the score documents as they are now, under the thresholds of run.json."""
    from core.runs import significance
    from core.runs.consistency import reported_by
    from core.runs.store import read_run
    from core.scoring.verdict import thresholds_of

    snapshot = read_run(run)
    thresholds = thresholds_of((snapshot.config or {}).get("gate") or {})
    document["significance"]["key"] = key = significance._key(run, reported_by(snapshot), thresholds)
    run.significance(key).write_text(json.dumps(document))
