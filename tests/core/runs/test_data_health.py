"""The audit in a run folder: part of the evidence, believed only whole and of the run's own data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from core.runs.data_health import audit_outdated, audited_hashes, health_of, read_health
from core.runs.evidence import gather
from core.runs.store import read_run
from core.scoring.data_health import SetHealth, Shared
from core.scoring.evidence import Decision, Thresholds, Verdict
from core.scoring.verdict import judge
from core.system.files import write_json
from core.system.seals import with_checksum

LEAK: dict[str, Any] = {
    "kind": "near_audio",
    "dataset": "heldout",
    "other": "train",
    "count": 1,
    "examples": ["heldout:1 ↔ train:1"],
}


def verdict(run: Any, reason: str | None = None) -> tuple[Verdict, tuple[str, ...]]:
    thresholds = Thresholds(accept_leakage=reason)
    found = gather(read_run(run.paths), run.paths, thresholds=thresholds)
    return judge(found.evidence, thresholds), found.problems


def test_an_audited_run_is_accepted(fake_run: Callable[..., Any]) -> None:
    found, problems = verdict(fake_run().good())
    assert (found.decision, problems) == (Decision.ACCEPTED, ())


def test_a_planted_leak_never_passes(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    run.health(LEAK)
    found, _ = verdict(run)
    assert found.decision is Decision.UNDECIDED
    assert "1 heldout clip is in train" in found.criterion("domain_gain").reason
    found, _ = verdict(run, "known")
    assert found.decision is Decision.ACCEPTED


def test_a_run_without_an_audit_is_undecided_and_says_what_to_do(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    run.paths.data_health.unlink()
    found, problems = verdict(run)
    assert (found.decision, problems) == (Decision.UNDECIDED, ())
    assert "lora-cli manifest check --run" in found.criterion("heldout").reason


def test_each_clip_twice_is_no_more_certain_and_no_set(fake_run: Callable[..., Any]) -> None:
    """The same errors, once as 60 recordings and once as 30 of which each is there twice."""
    run = fake_run().good()
    gathered = gather(read_run(run.paths), run.paths, thresholds=Thresholds(domain_gain_pp=15.0))
    alone = gathered.evidence.significance
    pairs = [[place, place + 1] for place in range(0, 60, 2)]
    together = [{"dataset": "domain", "groups": pairs}]
    run.health(together=together, copies=[{"dataset": "domain", "other": "domain", "count": 30}])
    gathered = gather(read_run(run.paths), run.paths, thresholds=Thresholds(domain_gain_pp=15.0))
    paired = gathered.evidence.significance
    assert alone is not None and paired is not None and alone.key != paired.key
    assert (alone.domain.units, paired.domain.units) == (60, 30)
    assert paired.domain.raw_pp == alone.domain.raw_pp and paired.domain.probability < alone.domain.probability
    assert paired.domain.low_pp < alone.domain.low_pp - 1.0
    found, problems = verdict(run)
    assert (found.decision, problems) == (Decision.UNDECIDED, ())
    reason = found.criterion("domain_gain").reason
    assert "30 of 60 domain clips (50.0 %) are copies of others in domain" in reason
    assert verdict(run, "known")[0].decision is Decision.UNDECIDED, "accepted leakage is no reason for copies"
    run.health(together=[{"dataset": "domain", "groups": [[0, 59]]}])
    assert verdict(run)[0].decision is Decision.ACCEPTED, "a few are weighed as one, and decide nothing"


def test_audits_of_utterances_that_are_not_there_are_none(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    for groups in ([[0, 60]], [[-1, 2]], [[0, 1], [1, 2]], [["0", "1"]], 3):
        run.health(together=[{"dataset": "domain", "groups": groups}])
        found, problems = verdict(run)
        assert found.decision is Decision.UNDECIDED and len(problems) == 1, groups
    run.health(together=[{"dataset": "train", "groups": [[0, 1]]}])
    assert verdict(run)[0].decision is Decision.UNDECIDED


def test_an_audit_of_an_older_version_is_outdated_and_an_edited_one_is_not(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    assert not audit_outdated(run.paths)
    content = {k: v for k, v in json.loads(run.paths.data_health.read_text()).items() if k != "checksum"}
    older = with_checksum({k: v for k, v in content.items() if k not in ("together", "copies")} | {"schema": 1})
    write_json(run.paths.data_health, older)
    assert audit_outdated(run.paths)
    found, problems = verdict(run)
    assert found.decision is Decision.UNDECIDED
    assert any("made by another version" in text and "manifest check --run" in text for text in problems)
    write_json(run.paths.data_health, older | {"shared": [1]})
    assert not audit_outdated(run.paths), "edited: left as it is"
    write_json(run.paths.data_health, with_checksum({k: v for k, v in content.items() if k != "copies"}))
    assert verdict(run)[0].decision is Decision.UNDECIDED, "one that does not say that there are no copies"
    run.paths.data_health.unlink()
    assert audit_outdated(run.paths)


def edited(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"shared": []}


def of_other_data(document: dict[str, Any]) -> dict[str, Any]:
    content = {key: value for key, value in document.items() if key != "checksum"}
    return with_checksum(content | {"hashes": {"train": "other"}})


def of_another_schema(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"schema": 99}


def without_sets(document: dict[str, Any]) -> dict[str, Any]:
    return with_checksum({key: value for key, value in document.items() if key not in ("checksum", "sets")})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (edited, "edited"),
        (of_other_data, "other data"),
        (of_another_schema, "schema 99"),
        (without_sets, "not an audit"),
    ],
)
def test_an_audit_that_cannot_be_believed_is_none(
    fake_run: Callable[..., Any], change: Callable[[dict[str, Any]], dict[str, Any]], says: str
) -> None:
    run = fake_run().good()
    run.health(LEAK)
    write_json(run.paths.data_health, change(json.loads(run.paths.data_health.read_text())))
    found, problems = verdict(run, "known")
    assert found.decision is Decision.UNDECIDED
    assert any(says in problem for problem in problems)


def test_a_torn_file_is_a_problem_and_no_crash(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    run.paths.data_health.write_text('{"schema": 1, "se')
    assert read_health(run.paths, {}) == (None, f"{run.paths.data_health}: not JSON")
    assert verdict(run)[0].decision is Decision.UNDECIDED


def test_replay_speech_of_which_nothing_is_taken_is_not_audited() -> None:
    config = {"hashes": {"model": "m", "train": "t", "replay": "r"}, "settings": {"train": {"replay_share": 0.0}}}
    assert audited_hashes(config) == {"train": "t"}
    assert audited_hashes({"hashes": config["hashes"]}) == {"train": "t", "replay": "r"}
    assert audited_hashes(None) == audited_hashes({"hashes": 3}) == {}


def test_a_document_is_read_back_and_a_broken_one_refused() -> None:
    one = SetHealth("train", 3, 9, 4.5, 2, 0, 0, -20.0, 3.0, 0.0, 0.0)
    sets = [asdict(replace(one, name=name)) for name in ("train", "domain", "heldout")]
    document: dict[str, Any] = {
        "key": "k",
        "sets": sets,
        "shared": [LEAK],
        "copies": [],
        "together": [],
        "findings": {},
    }
    assert health_of(document).leaks == (Shared(**LEAK | {"examples": tuple(LEAK["examples"])}),)
    for broken in (
        {"sets": sets[:2]},
        {"sets": [*sets, {"name": "x"}]},
        {"shared": [LEAK | {"count": 0}]},
        {"shared": [LEAK | {"kind": "smell"}]},
        {"shared": [LEAK | {"other": "elsewhere"}]},
        {"shared": None},
        {"sets": [sets[0] | {"seconds": 1e300}, *sets[1:]]},
        {"sets": [sets[0] | {"clips": True}, *sets[1:]]},
        {"sets": [*sets, sets[0]]},
        {"copies": [{"dataset": "domain", "other": "train", "count": 1}]},
        {"copies": None},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            health_of(document | broken)
