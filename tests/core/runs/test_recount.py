"""A gate that counts by another unit than a run was scored by: recounted from the stored texts, or UNKNOWN."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from score_kit import edit

from core.cli.__main__ import main
from core.errors import ExitCode
from core.manifests.hashing import HashCache
from core.runs.judged import Judged, judged, origin
from core.runs.model_card import render as render_card
from core.runs.position import read_positions, write_positions
from core.runs.row import Row, rate_of
from core.runs.run_figures import of_run
from core.runs.scores import decode_score, read_score
from core.runs.signing import Keys
from core.runs.store import read_run
from core.runs.verify import verify
from core.scoring.alignment import count_errors
from core.scoring.criteria import lighter_points
from core.scoring.evidence import State, Thresholds
from core.scoring.text import normaliser
from core.scoring.units import Unit, total
from core.sinks.sink import interval_values
from lora_tui.dashboard.plots.charts import domain_plot, heldout_plot
from lora_tui.dashboard.plots.view import PlotStyle
from lora_tui.dashboard.reading.snapshots import RunView
from lora_tui.dashboard.screens.matrix import matrix_of
from lora_tui.dashboard.text.columns import fitting, heading
from lora_tui.dashboard.text.run_pages import health_lines, interval_lines, read_transcripts
from lora_tui.progress import interval_line
from lora_tui.reports import csv_table, html_page, json_document, junit_xml, markdown
from lora_tui.reports.curves import charts, position_charts
from lora_tui.reports.report import of_lines

CHARACTERS = Thresholds(unit=Unit.CHARACTER)


def under(run: Any, thresholds: Thresholds) -> Judged:
    return judged(read_run(run.paths), thresholds)


def problems_of(run: Any, tmp_path: Path) -> list[str]:
    """What `verify` finds, but for the identity, for which a run that is written by hand lacks settings."""
    found = verify(run.paths, HashCache(tmp_path / "hashes.json"), Keys())
    return [problem for problem in found.problems if "so its identity cannot be computed" not in problem]


def by_hand(path: Path, unit: Unit) -> Any:
    apply = normaliser("basic").apply
    score, _ = read_score(path)
    assert score is not None
    return total(count_errors(apply(u.reference), apply(u.hypothesis), unit) for u in score.utterances)


def in_characters(run: Any) -> None:
    """The run as it would be, had its own gate counted characters."""
    edit(run.paths.config, lambda config: config.update(gate={"unit": "character"}))
    totals: dict[tuple[int | None, str], dict[str, int]] = {}
    for path in sorted(run.paths.evals.glob("*/*.json")):
        document = json.loads(path.read_text())
        names = ("substitutions", "deletions", "insertions", "reference_words")
        for utterance in document["utterances"]:
            counts = count_errors(utterance["reference"], utterance["hypothesis"], Unit.CHARACTER)
            utterance |= {name: getattr(counts, name) for name in names}
        document["counts"] = {name: sum(u[name] for u in document["utterances"]) for name in names}
        path.write_text(json.dumps(document | {"unit": "character"}))
        if path.parent.name != "tuned":
            totals[document["step"], document["dataset"]] = document["counts"]
    lines = [json.loads(line) for line in run.paths.events.read_text().splitlines()]
    for line in lines:
        if line["event"] == "interval":
            for name, values in line["sets"].items():
                values.update(totals[line["step"], name])
    run.paths.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.result()


def test_errors_are_counted_again_from_the_texts(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    found = under(run, CHARACTERS)
    evidence = found.evidence
    assert evidence.uncounted is None and not found.problems
    assert evidence.tuned_domain == by_hand(run.paths.tuned("domain"), Unit.CHARACTER)
    assert evidence.baseline_heldout == by_hand(run.paths.evaluation(0, "heldout"), Unit.CHARACTER)
    assert [i.step for i in evidence.intervals] == [0, 400, 800, 900, 1000]
    assert evidence.intervals[1].domain.counts == by_hand(run.paths.evaluation(400, "domain"), Unit.CHARACTER)
    assert evidence.intervals[1].domain.loss == read_run(run.paths).intervals[1].domain.loss
    gain = found.verdict.criterion("domain_gain")
    assert gain.state is State.PASS and gain.reason.startswith("Domain CER ")
    assert gain.certainty is not None and gain.certainty.unit is Unit.CHARACTER
    assert gain.value == pytest.approx(gain.certainty.raw_pp)
    assert found.verdict.criterion("stability").reason.startswith("Domain CER spans")
    assert "Errors are counted in characters, though domain and heldout texts part their words" in " ".join(
        found.verdict.remarks
    )
    counted = dict(origin(found))["Errors counted in"]
    assert counted == "characters, again from the texts: the run was scored in words"
    # Whoever draws the run draws what the gate counts.
    assert found.snapshot.unit is Unit.CHARACTER and found.snapshot.intervals == evidence.intervals


def test_what_is_stored_of_one_unit_is_not_taken_for_the_other(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    words, characters, again = (under(run, one) for one in (Thresholds(), CHARACTERS, Thresholds()))
    figures = [one.verdict.criterion("domain_gain").certainty for one in (words, characters, again)]
    assert figures[0] == figures[2] != figures[1]
    assert len(list(run.paths.evals.glob("significance-*.json"))) == 2


def test_nothing_is_remarked_of_texts_without_spaces(fake_run: Callable[..., Any]) -> None:
    evidence = under(fake_run().good(), CHARACTERS).evidence
    assert evidence.significance is not None and lighter_points(evidence, CHARACTERS)
    unparted = tuple(replace(one, joined=one.utterances) for one in evidence.significance.spelling)
    evidence = replace(evidence, significance=replace(evidence.significance, spelling=unparted))
    assert lighter_points(evidence, CHARACTERS) == ()


def test_english_is_counted_by_words_where_units_are_mixed(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    mixed = under(run, Thresholds(unit=Unit.MIXED))
    assert mixed.evidence.tuned_domain == under(run, Thresholds()).evidence.tuned_domain
    assert mixed.verdict.criterion("domain_gain").reason.startswith("Domain MER 50.00 → 30.00 %")


def test_a_run_that_counted_characters_is_judged_by_words(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    expected = under(run, Thresholds()).evidence
    in_characters(run)
    assert read_run(run.paths).unit is Unit.CHARACTER
    own = under(run, CHARACTERS)
    assert not own.problems and own.evidence.tuned_domain == by_hand(run.paths.tuned("domain"), Unit.CHARACTER)
    words = under(run, Thresholds())
    assert not words.problems
    assert words.evidence.intervals == expected.intervals
    assert (words.evidence.tuned_domain, words.evidence.tuned_heldout) == (
        expected.tuned_domain,
        expected.tuned_heldout,
    )


@pytest.mark.parametrize("fault", ["normaliser", "missing"])
def test_what_cannot_be_counted_again_is_unknown_with_the_reason(fake_run: Callable[..., Any], fault: str) -> None:
    run = fake_run().good()
    if fault == "normaliser":
        for path in run.paths.evals.glob("*/*.json"):
            edit(path, lambda document: document.update(normaliser={"name": "basic", "version": 1}))
    else:
        run.paths.evaluation(400, "heldout").unlink()
    run.result()
    found = under(run, CHARACTERS)
    assert found.verdict.decision.value != "accepted"
    for name in ("stability", "domain_gain", "heldout", "parity"):
        criterion = found.verdict.criterion(name)
        assert criterion.state is State.UNKNOWN, name
        assert "run was scored in words, the gate counts characters: " in criterion.reason, name
    reason = found.verdict.criterion("domain_gain").reason
    says = (
        "scored with version 1 of the normaliser basic, this is 2" if fault == "normaliser" else "heldout.json: missing"
    )
    assert says in reason or "No such file" in reason
    # What needs no counts is as it was; and nothing by another unit is shown as a rate of this one.
    assert found.verdict.criterion("convergence").state is State.PASS
    assert of_run(Row("a", "a"), found).figures.domain.now is None


def test_a_document_of_another_unit_than_the_run_says_is_no_evidence(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    edit(run.paths.tuned("domain"), lambda document: document.update(unit="character"))
    run.result()
    found = under(run, Thresholds())
    assert any("its unit is 'character', the run's is 'word'" in problem for problem in found.problems)
    assert found.verdict.criterion("domain_gain").state is State.UNKNOWN


def test_documents_of_earlier_versions_count_words(fake_run: Callable[..., Any], tmp_path: Path) -> None:
    run = fake_run().good()
    expected = under(run, Thresholds()).verdict
    for path in run.paths.evals.glob("*/*.json"):
        edit(path, lambda document: document.pop("unit"))
        assert decode_score(path.read_bytes()).unit is Unit.WORD
    run.result()
    assert under(run, Thresholds()).verdict.decision is expected.decision
    assert problems_of(run, tmp_path) == []


def test_verify_counts_by_the_runs_own_unit(fake_run: Callable[..., Any], tmp_path: Path) -> None:
    run = fake_run().good()
    in_characters(run)
    assert problems_of(run, tmp_path) == []
    assert under(run, CHARACTERS).verdict.criterion("domain_gain").reason.startswith("Domain CER")
    edit(run.paths.tuned("domain"), lambda document: document["utterances"][0].update(hypothesis="wrong"))
    assert any("its counts say" in problem and "characters" in problem for problem in problems_of(run, tmp_path))


def test_every_report_says_cer(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    in_characters(run)
    found = under(run, CHARACTERS)
    row = of_run(Row("plan:2.1", "2.1"), found)
    report = of_lines([row])
    texts = {
        "md": markdown.render(report),
        "csv": csv_table.render(report),
        "json": json_document.render(report),
        "xml": junit_xml.render(report),
        "html": html_page.render(report),
        "card": render_card(found),
        "line": interval_line(found.snapshot.intervals[1], found.snapshot),
        "board": "".join(text for text, _ in heading(fitting(200), rate_of([row]))),
    }
    for name, text in texts.items():
        assert "WER" not in text.replace("WERs", ""), name
        assert "CER" in text, name
    (written,) = csv.DictReader(io.StringIO(texts["csv"]))
    assert written["rate"] == "CER"
    assert "| Domain CER % |" in texts["md"] and "characters fixed" in texts["md"]
    assert "Character error rate" in texts["card"] and "type: cer" in texts["card"]
    assert "domain/cer" in interval_values(found.snapshot.intervals[1], found.snapshot.unit)


def test_plots_pages_and_tables_of_the_dashboard_say_cer(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    in_characters(run)
    write_positions(run.paths)
    positions, problem = read_positions(run.paths)
    assert problem is None and {position.unit for position in positions} == {Unit.CHARACTER}
    found = under(run, CHARACTERS)
    view = RunView("a", "2.1", found, found.verdict, {}, (), (), (), positions)
    assert domain_plot(view, PlotStyle()).title == "domain CER %"
    assert heldout_plot(view, PlotStyle()).title == "heldout CER, points"
    assert {"domain CER", "heldout CER"} <= set(matrix_of([of_run(Row("a", "a"), found)]).headings)
    titles = [chart.title for chart in charts(found.snapshot, found.thresholds, 1000) + position_charts(positions)]
    assert titles[1:3] == ["Domain CER", "Heldout CER"] and titles[3].startswith("Running domain CER, ")
    pages = interval_lines(view, 200) + health_lines(view, 200, ascii_only=True)
    text = "\n".join("".join(piece for piece, _ in line) for line in pages)
    assert "domain CER" in text and "running domain CER %" in text and "WER" not in text
    transcripts = read_transcripts(run.paths, "domain", 1000, found.snapshot.unit)
    assert transcripts.clips[0].reference[:6] == ("r", "i", "g", "h", "t", " ")


def test_the_order_of_a_set_by_words_is_written_as_ever(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    write_positions(run.paths)
    assert all("unit" not in one for one in json.loads(run.paths.position.read_text())["positions"])
    assert {position.unit for position in read_positions(run.paths)[0]} == {Unit.WORD}


def test_errors_are_listed_by_the_runs_unit(fake_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    run = fake_run().good()
    in_characters(run)
    assert main(["errors", str(run.paths.root), "--limit", "3"]) == ExitCode.ACCEPTED
    out = capsys.readouterr().out
    assert out.startswith("CER ") and "characters never learnt (wrong before and now): " in out
    assert "running CER stays within" in out and "WER" not in out
    assert "(space)" in out


def test_a_table_of_several_units_says_so() -> None:
    rows = [
        replace(Row("a", "a"), figures=replace(Row("a", "a").figures, unit=unit))
        for unit in (Unit.WORD, Unit.CHARACTER)
    ]
    assert rate_of(rows) == "WER/CER"
    assert rate_of([Row("a", "a")]) == "WER"
