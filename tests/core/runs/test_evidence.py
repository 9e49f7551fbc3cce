"""From a run folder to its evidence: what is whole passes the verdict, what is broken is None and named."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from core.runs.adapter_files import CONFIG, WEIGHTS
from core.runs.events import Final
from core.runs.evidence import Gathered, gather
from core.runs.store import read_run
from core.scoring.evidence import Artifact, Decision, Parity, State, Thresholds, Verdict
from core.scoring.verdict import judge

MakeRun = Callable[..., Any]
FINGERPRINT = "0123456789ab-basic1"


def evidence(run: Any) -> Gathered:
    return gather(read_run(run.paths), run.paths)


def verdict(run: Any) -> Verdict:
    return judge(evidence(run).evidence, Thresholds())


def test_a_whole_run_is_accepted(fake_run: MakeRun) -> None:
    run = fake_run().good()
    gathered = evidence(run)
    found = gathered.evidence
    assert gathered.problems == ()
    assert (found.steps_planned, found.steps_completed, found.failure) == (1000, 1000, None)
    assert found.baseline_domain is not None
    assert found.tuned_domain is not None
    assert (found.baseline_domain.wer_percent, found.tuned_domain.wer_percent) == (50.0, 30.0)
    assert found.artifact is not None
    assert found.artifact.scored_step == found.artifact.best_step == 1000
    assert found.artifact.scored_hash == found.artifact.current_hash
    assert found.parity == Parity(True, 0, 0, 100, 0, FINGERPRINT, FINGERPRINT, 120)
    assert verdict(run).decision is Decision.ACCEPTED


def test_a_run_that_goes_on_lacks_its_tuned_score_and_has_no_problem(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.interval(0, 300, 30)
    run.step(1)
    gathered = evidence(run)
    assert gathered.problems == ()
    found = gathered.evidence
    assert (found.tuned_domain, found.parity, found.artifact) == (
        None,
        None,
        Artifact(None, None, None, None),
    )
    assert verdict(run).decision is Decision.UNDECIDED


def test_a_done_run_without_a_tuned_score_is_a_problem(fake_run: MakeRun) -> None:
    run = fake_run().good()
    run.paths.tuned("domain").unlink()
    run.result()
    assert evidence(run).problems == (f"{run.paths.tuned('domain')}: missing",)
    assert verdict(run).criterion("domain_gain").state is State.UNKNOWN
    assert verdict(run).decision is Decision.UNDECIDED


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_an_adapter_changed_after_its_score_fails_integrity(fake_run: MakeRun, name: str) -> None:
    run = fake_run().good()
    assert verdict(run).criterion("integrity").state is State.PASS
    path = run.paths.best / name
    path.write_bytes(path.read_bytes().replace(b"w", b"x").replace(b"16", b"32"))
    assert verdict(run).criterion("integrity").state is State.FAIL


def test_another_adapter_under_the_link_fails_integrity(fake_run: MakeRun) -> None:
    run = fake_run().good()
    run.adapter(900)
    assert verdict(run).criterion("integrity").state is State.FAIL


def test_one_set_scored_with_another_adapter_fails_integrity(fake_run: MakeRun) -> None:
    run = fake_run().good()
    score = json.loads(run.paths.tuned("domain").read_text())
    run.paths.tuned("domain").write_text(json.dumps(score | {"adapter_hash": "ff" * 32}))
    assert verdict(run).criterion("integrity").state is State.FAIL


@pytest.mark.parametrize("broken", ["link", "weights", "config"])
def test_a_missing_or_broken_adapter_is_named(fake_run: MakeRun, broken: str) -> None:
    run = fake_run().good()
    if broken == "link":
        run.paths.best.unlink()
    elif broken == "weights":
        (run.paths.best / WEIGHTS).unlink()
    else:
        (run.paths.best / CONFIG).write_text("{")
    assert verdict(run).criterion("integrity").state is State.UNKNOWN
    assert len(evidence(run).problems) == 1
    assert "lora_adapter_best" in evidence(run).problems[0]


def rewritten(run: Any, dataset: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = run.paths.tuned(dataset)
    score = json.loads(path.read_text())
    change(score)
    path.write_text(json.dumps(score))
    run.result()  # as if the trainer had ended with it


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.update(manifest_sha256="cd" * 32), "another manifest_sha256"),
        (lambda s: s.update(normaliser={"name": "raw", "version": 1}), "another normaliser"),
        (lambda s: s["decode"].update(method="beam"), "another decode"),
        (lambda s: s.update(schema=1), "schema 1, not 2: scored by another version"),
        (lambda s: s["counts"].update(substitutions=0), "not the sum over its utterances"),
        (lambda s: s["counts"].update(reference_words="600"), "$.counts.reference_words"),
        (lambda s: s.update(utterances=[]), "not the sum over its utterances"),
        (lambda s: s.update(manifest_sha256=None), "$.manifest_sha256"),
        (lambda s: s["utterances"][0].pop("fields"), "missing required field `fields`"),
        (lambda s: s["utterances"][0].update(fields={"room": ["a"]}), "$.utterances[0].fields"),
        (lambda s: s["utterances"][0].update(seconds=-1.0), "$.utterances[0].seconds"),
        (lambda s: s["utterances"][0].update(substitutions=True), "$.utterances[0].substitutions"),
        (lambda s: s["utterances"][0].update(seconds=2.5), "utterance clip0 has another seconds"),
        (lambda s: s["utterances"][0].update(speaker="ann"), "utterance clip0 has another speaker"),
        (lambda s: s["utterances"][0].update(fields={"room": "a"}), "utterance clip0 has another fields"),
        (lambda s: s["utterances"][0].update(reference="left " * 10), "utterance clip0 has another reference"),
        (lambda s: s["utterances"].reverse(), "utterance clip0 has another id"),
        (lambda s: s.update(silent=["clip99"]), "not among its utterances"),
        (lambda s: s["decode"].update(tokens_per_second=0), "$.decode.tokens_per_second"),
        (lambda s: s["utterances"][0].update(id="clip1"), "same id"),
        (lambda s: s["utterances"][0].update(hypothesis=None), "$.utterances[0].hypothesis"),
        (lambda s: s.clear(), "schema None, not 2"),
    ],
)
def test_a_score_that_does_not_compare_is_no_evidence(
    fake_run: MakeRun, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    run = fake_run().good()
    rewritten(run, "domain", change)
    gathered = evidence(run)
    assert gathered.evidence.tuned_domain is None
    assert gathered.evidence.tuned_heldout is not None
    assert says in gathered.problems[0]
    assert str(run.paths.tuned("domain")) in gathered.problems[0]
    assert verdict(run).decision is not Decision.ACCEPTED


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("which", ["tuned", "own", "baseline"])
def test_broken_score_files_never_raise(fake_run: MakeRun, content: bytes, which: str) -> None:
    run = fake_run().good()
    step = {"own": 1000, "baseline": 0}.get(which)
    path = run.paths.tuned("heldout") if step is None else run.paths.evaluation(step, "heldout")
    path.write_bytes(content)
    run.result()
    assert any(str(path) in problem for problem in evidence(run).problems)
    assert verdict(run).decision is Decision.UNDECIDED


def test_a_baseline_document_must_bear_out_its_event(fake_run: MakeRun) -> None:
    run = fake_run().good()
    run.score(run.paths.evaluation(0, "heldout"), 40, step=0, dataset="heldout", loss=2.0)
    gathered = evidence(run)
    assert gathered.evidence.tuned_heldout is None
    assert "not those of the interval event" in gathered.problems[0]


def test_parity_counts_transcripts_that_differ(fake_run: MakeRun) -> None:
    run = fake_run().good()
    rewritten(run, "heldout", lambda s: s["utterances"][7].update(hypothesis="Right " * 10))
    parity = evidence(run).evidence.parity
    assert parity is not None
    assert (parity.domain_transcripts_differing, parity.heldout_transcripts_differing) == (0, 1)
    assert verdict(run).criterion("parity").state is State.FAIL


@pytest.mark.parametrize(
    ("changes", "same", "state"),
    [
        ({"device": "cpu"}, True, State.PASS),
        ({"device": "cuda:1"}, False, State.PASS),
        ({"precision": "bf16"}, False, State.PASS),
        ({"fingerprint": "ffff-basic1"}, True, State.FAIL),
        ({"single": None}, True, State.UNKNOWN),
        ({"single": {"compared": 20, "differing": 0}}, True, State.UNKNOWN),
        ({"single": {"compared": 50, "differing": 1}}, True, State.FAIL),
    ],
)
def test_parity_looks_at_device_fingerprint_and_single_clips(
    fake_run: MakeRun, changes: dict[str, Any], same: bool, state: State
) -> None:
    run = fake_run().good()
    run.tuned(1000, 180, 30, **changes)
    run.result()
    parity = evidence(run).evidence.parity
    assert parity is not None
    assert parity.same_device is same
    assert verdict(run).criterion("parity").state is state


def test_parity_needs_the_same_utterances(fake_run: MakeRun) -> None:
    run = fake_run().good()
    rewritten(run, "domain", lambda s: s["utterances"][0].update(id="another"))
    assert verdict(run).criterion("parity").state is State.UNKNOWN
    assert any("not the utterances that the trainer scored" in problem for problem in evidence(run).problems)


@pytest.mark.parametrize(
    ("outcome", "failure"),
    [
        ("diverged", "The run diverged: loss is nan at step 7"),
        ("out_of_memory", "The run ran out of memory: loss is nan at step 7"),
        ("error", "The run failed: loss is nan at step 7"),
        ("stopped", None),
        ("disk_full", None),
    ],
)
def test_how_a_run_ended_decides(fake_run: MakeRun, outcome: str, failure: str | None) -> None:
    run = fake_run()
    run.start()
    run.interval(0, 300, 30)
    run.event(Final(outcome, "loss is nan at step 7", 7))
    assert evidence(run).evidence.failure == failure
    rejected = verdict(run).decision is Decision.REJECTED
    assert rejected == (failure is not None)


def test_the_queue_may_give_a_crashed_run_up(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start(process={})
    gathered = gather(read_run(run.paths), run.paths, gave_up="It crashed 3 times.")
    assert gathered.evidence.failure == "It crashed 3 times."


def test_an_empty_folder_gives_no_evidence_and_no_error(fake_run: MakeRun) -> None:
    run = fake_run()
    run.paths.config.unlink()
    gathered = evidence(run)
    assert gathered.evidence.intervals == ()
    assert gathered.problems == (f"{run.paths.config}: missing",)
