"""How sure a run's WERs are: computed once, kept by the hash of its documents, never believed when edited."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.runs import significance
from core.runs.evidence import Gathered, gather
from core.runs.judged import judged
from core.runs.row import Row
from core.runs.run_figures import of_run
from core.runs.store import read_run
from core.scoring import assess
from core.scoring.evidence import Decision, State, Thresholds
from core.scoring.verdict import judge
from lora_tui.reports import markdown
from lora_tui.reports.report import of_lines

MakeRun = Callable[..., Any]
SURE = Thresholds(confidence=0.95)


def evidence(run: Any, thresholds: Thresholds = SURE) -> Gathered:
    return gather(read_run(run.paths), run.paths, thresholds=thresholds)


def stored(run: Any) -> list[Path]:
    return sorted(run.paths.evals.glob("significance-*.json"))


def test_it_is_computed_once_and_kept(fake_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake_run().good()
    first = evidence(run).evidence.significance
    assert first is not None and first.domain.raw_pp == pytest.approx(20.0)
    assert first.heldout.raw_pp == 0 and first.heldout.fixed == first.heldout.broken == 0
    assert len(stored(run)) == 1
    run.paths.root.rename(run.paths.root.with_name("copied"))
    run.paths = replace(run.paths, root=run.paths.root.with_name("copied"))
    monkeypatch.setattr(assess, "assess", None)
    assert evidence(run).evidence.significance == first


def test_other_documents_and_thresholds_are_computed_anew(fake_run: MakeRun) -> None:
    run = fake_run().good()
    evidence(run)
    other = evidence(run, replace(SURE, domain_gain_pp=20.0)).evidence.significance
    assert other is not None and 0.2 < other.domain.probability < 0.8
    run.tuned(1000, 181, 30)
    again = evidence(run).evidence.significance
    assert again is not None and again.domain.raw_pp == pytest.approx(100 * (300 - 181) / 600)
    assert len(stored(run)) == 3


def test_a_planted_figure_is_not_believed(fake_run: MakeRun) -> None:
    run = fake_run().good()
    run.tuned(1000, 300, 30)
    honest = evidence(run).evidence.significance
    assert honest is not None and honest.domain.probability < 0.5
    [file] = stored(run)
    document = json.loads(file.read_text())
    document["significance"]["domain"]["probability"] = 1.0
    file.write_text(json.dumps(document))
    run.paths.root.rename(run.paths.root.with_name("moved"))  # past the answers kept in memory
    run.paths = replace(run.paths, root=run.paths.root.with_name("moved"))
    assert evidence(run).evidence.significance == honest


def test_counts_that_are_not_those_of_the_texts_leave_the_run_undecided(fake_run: MakeRun) -> None:
    run = fake_run().good()
    path = run.paths.tuned("domain")
    document = json.loads(path.read_text())
    document["utterances"][0] |= {"substitutions": 0}
    document["counts"]["substitutions"] -= 10
    path.write_text(json.dumps(document))
    gathered = evidence(run, Thresholds())
    verdict = judge(gathered.evidence, Thresholds())
    assert any("a score document was edited" in problem for problem in gathered.problems)
    assert verdict.criterion("domain_gain").state is State.UNKNOWN
    assert verdict.decision is not Decision.ACCEPTED


def test_texts_that_another_version_normalised_leave_the_run_undecided(fake_run: MakeRun) -> None:
    run = fake_run().good()
    for path in run.paths.evals.rglob("*.json"):
        document = json.loads(path.read_text())
        if "normaliser" in document:
            document["normaliser"]["version"] += 1
            path.write_text(json.dumps(document))
    gathered = evidence(run, Thresholds())
    assert any("of the normaliser basic, this is" in problem for problem in gathered.problems)
    assert judge(gathered.evidence, Thresholds()).criterion("domain_gain").state is State.UNKNOWN


def test_a_missing_interval_document_leaves_it_unsure(fake_run: MakeRun) -> None:
    run = fake_run().good()
    run.paths.evaluation(800, "heldout").unlink()
    gathered = evidence(run)
    assert gathered.evidence.significance is None
    assert any("step-000800/heldout.json" in problem for problem in gathered.problems)
    criterion = judge(gathered.evidence, SURE).criterion("heldout")
    assert criterion.state is State.UNKNOWN
    assert judge(evidence(run, Thresholds()).evidence, Thresholds()).criterion("heldout").state is State.UNKNOWN


def test_the_matrix_shows_it_under_the_criterion(fake_run: MakeRun) -> None:
    run = fake_run().good()
    text = markdown.render(of_lines([of_run(Row("plan:2.1", "2.1"), judged(read_run(run.paths), SURE))]))
    assert "\n- Domain change: 95 % interval −" in text and "words fixed, 0 broken" in text and "MAPSSWE p" in text


def test_nothing_is_computed_without_thresholds(fake_run: MakeRun) -> None:
    run = fake_run().good()
    assert gather(read_run(run.paths), run.paths).evidence.significance is None
    assert not stored(run)


def on_machine(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As a new process on another machine."""
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / name))
    significance._assess.cache_clear()


def test_what_another_machine_stored_is_computed_here_once(
    fake_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = fake_run().good()
    on_machine("gpu box", monkeypatch, tmp_path)
    first = evidence(run).evidence.significance
    computed: list[None] = []
    real = assess.assess

    def counted(*arguments: Any, **more: Any) -> Any:
        computed.append(None)
        return real(*arguments, **more)

    monkeypatch.setattr(assess, "assess", counted)
    for machine in ("ci", "gpu box", "ci"):
        on_machine(machine, monkeypatch, tmp_path)
        assert evidence(run).evidence.significance == first
    assert len(computed) == 1, "each keeps its own seal"


def test_the_last_digits_of_a_processor_are_no_edit(fake_run: MakeRun) -> None:
    found = evidence(fake_run().good()).evidence.significance
    assert found is not None
    digits = replace(found, domain=replace(found.domain, low_pp=found.domain.low_pp + 1e-12), key="")
    assert significance.alike(found, digits)
    assert not significance.alike(
        found, replace(found, domain=replace(found.domain, low_pp=found.domain.low_pp + 0.01))
    )
