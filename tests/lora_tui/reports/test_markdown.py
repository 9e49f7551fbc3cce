"""The run matrix: what a reader finds in it, and that no text breaks it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.schema import HistoryRow
from core.runs.events import Final
from core.runs.judged import judged
from core.runs.matrix import CRITERIA, differing_settings, history_row
from core.runs.row import Figures, Row, duration, points
from core.runs.run_figures import of_run
from core.runs.status import Status
from core.runs.store import read_run
from core.scoring.evidence import Thresholds
from core.scoring.units import Unit
from lora_tui.reports import html_page, json_document, junit_xml
from lora_tui.reports import markdown as markdown_format
from lora_tui.reports.report import of_lines

MakeRun = Callable[..., Any]


def render_markdown(rows: list[Row], **more: Any) -> str:
    return markdown_format.render(of_lines(rows), **more)


def row_of(run: Any, experiment: str = "2.1", settings: str = "", **more: Any) -> Row:
    bare = Row(f"plan:{experiment}", experiment, settings=settings, **more)
    return of_run(bare, judged(read_run(run.paths, now=run.time), Thresholds()))


def cells(markdown: str, experiment: str) -> dict[str, str]:
    """The cells of a row by heading."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    found = next(row for row in table if row[0].split(" ")[0] == experiment)
    return dict(zip(table[0], found, strict=True))


def test_an_accepted_run(fake_run: MakeRun) -> None:
    run = fake_run().good()
    row = row_of(run, settings="learning_rate=0.0001")
    found = cells(render_markdown([row]), "2.1")
    wanted = {
        "Experiment": "2.1 DoRA",
        "Settings": "learning_rate=0.0001",
        "Steps": "1000",
        "Domain WER %": "50.00 → 30.00",
        "Domain change": "−20.00",
        "Heldout WER %": "5.00 → 5.00",
        "Heldout change": "+0.00",
        "Verdict": "accepted",
        "Adapter": (row.figures.adapter_hash or "")[:12],
        "Where it stands": "SHIP 2.1 step 1000: domain −20.00, heldout +0.00 (0.20 to spare), "
        "50 % chance that both limits hold",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert [found[name] for name in CRITERIA.values()] == ["PASS"] * 6
    assert found["Duration"].endswith(" s")


def test_every_criterion_is_explained_below_the_table(fake_run: MakeRun) -> None:
    text = render_markdown([row_of(fake_run().good())])
    below = text.partition("## 2.1 DoRA")[2]
    assert "Run 2.1-0123456789: **SHIP 2.1 step 1000: domain −20.00, " in below
    for title in (
        "Convergence",
        "Stability",
        "Artifact integrity",
        "Domain change",
        "Heldout change",
        "Parity",
    ):
        assert f"| {title} | PASS | " in below
    assert "50.00 → 30.00 %, a change of −20.00 points" in below


def test_a_run_that_failed_says_how(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.interval(0, 300, 30)
    run.step(1, 2)
    run.event(Final("diverged", "loss is nan at step 3", 3))
    found = cells(render_markdown([row_of(run)]), "2.1")
    assert found["Verdict"] == "rejected (diverged)"
    assert found["Where it stands"] == "rejected: the run diverged: loss is nan at step 3"
    assert (found["Steps"], found["Domain WER %"]) == ("2 of 1000", "50.00 → –")
    assert (found["Domain change"], found["Adapter"]) == ("–", "–")


def test_a_run_that_goes_on_is_judged_so_far(fake_run: MakeRun) -> None:
    run = fake_run()
    run.start()
    run.step(1)
    found = cells(render_markdown([row_of(run)]), "2.1")
    assert found["Verdict"] == "training, too early"


def test_a_rejected_run_says_what_it_failed(fake_run: MakeRun) -> None:
    run = fake_run().good()
    run.tuned(1000, 180, 60)
    run.result()
    found = cells(render_markdown([row_of(run)]), "2.1")
    assert (found["Verdict"], found["Heldout"], found["Heldout change"]) == ("rejected", "FAIL", "+5.00")
    assert found["Where it stands"].startswith("rejected: step 1000: heldout +5.00, 4.80 more than the 0.2 allowed")


def test_rows_without_a_run(fake_run: MakeRun) -> None:
    rows = [
        history_row(0, HistoryRow("exp_2.1b", "DoRA", "short, high learning rate: unstable"), Unit.WORD),
        history_row(1, HistoryRow("exp_1.1", note="made elsewhere", domain_wer=31.256), Unit.WORD),
        Row("plan:2.2", "2.2", Status.SKIPPED, "condition not met", figures=Figures(steps_planned=1000)),
        Row("plan:3.1#1", "3.1#1", Status.WAITING, "waits for 2.1", settings="learning_rate=5e-05"),
    ]
    text = render_markdown(rows)
    old = cells(text, "exp_2.1b")
    assert (old["Domain WER %"], old["Domain change"], old["Verdict"]) == ("–", "–", "history")
    assert old["Where it stands"] == "earlier result: short, high learning rate: unstable"
    assert [old[name] for name in CRITERIA.values()] == ["–"] * 6
    assert cells(text, "exp_1.1")["Domain WER %"] == "– → 31.26"
    skipped = cells(text, "2.2")
    assert (skipped["Verdict"], skipped["Where it stands"], skipped["Steps"]) == (
        "skipped",
        "skipped: condition not met",
        "1000",
    )
    assert cells(text, "3.1#1")["Settings"] == "learning_rate=5e-05"
    assert "## " not in text


def test_one_run_in_two_rows_is_explained_once(fake_run: MakeRun) -> None:
    run = fake_run().good()
    rows = [row_of(run, "2.1"), row_of(run, "3.1#2", title="sweep")]
    text = render_markdown(rows)
    assert cells(text, "2.1")["Verdict"] == cells(text, "3.1#2")["Verdict"] == "accepted"
    assert "The same run as 2.1: 2.1-0123456789." in text
    assert text.count("| Convergence | PASS") == 1


def test_what_could_not_be_read_is_listed(fake_run: MakeRun) -> None:
    run = fake_run().good()
    run.paths.tuned("heldout").write_text("{")
    run.result()
    text = render_markdown([row_of(run)])
    assert "- Problem: " in text
    assert "heldout.json: not a score document: not JSON" in text
    assert cells(text, "2.1")["Verdict"] == "undecided"


def test_an_empty_plan_has_a_matrix_too() -> None:
    assert "No experiments." in render_markdown([])


@given(st.text(st.characters(exclude_categories=[])), st.text(st.characters(exclude_categories=[])))
def test_no_text_breaks_the_table(title: str, note: str) -> None:
    row = Row("plan:2.2", "2.2", Status.SKIPPED, note, title=title, settings=note)
    text = render_markdown([row], title=title)
    lines = text.split("\n")
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) == 3
    assert len({line.replace("\\\\", "").replace("\\|", "").count("|") for line in table}) == 1
    assert "<" not in text
    assert "\x1b" not in text
    text.encode()


def test_settings_that_differ() -> None:
    def settings(rate: float, modules: tuple[str, ...], seed: int = 0, **train: Any) -> dict[str, Any]:
        return {
            "train": {"learning_rate": rate, "seed": seed, "steps": 1000} | train,
            "adapter": {"target_modules": modules, "seed": 1},
        }

    rows = [settings(1e-4, ("q", "v")), settings(5e-5, ("q", "v")), settings(1e-4, ("q", "k"))]
    assert differing_settings(rows) == (
        "target_modules=q+v, learning_rate=0.0001",
        "target_modules=q+v, learning_rate=5e-05",
        "target_modules=q+k, learning_rate=0.0001",
    )
    assert differing_settings(rows[:1]) == ("",)
    assert differing_settings([]) == ()
    flags = [settings(1e-4, (), clip=None), settings(1e-4, (), clip=True)]
    assert differing_settings(flags) == ("clip=none", "clip=true")
    seeds = [settings(1e-4, ()), settings(1e-4, (), seed=2) | {"adapter": {"seed": 2, "target_modules": ()}}]
    assert differing_settings(seeds)[0] == "adapter.seed=1, train.seed=0"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3600, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("change", "shown"), [(-16.4, "−16.40"), (3.1, "+3.10"), (0.0, "+0.00"), (-0.001, "+0.00"), (None, "–")]
)
def test_points(change: float | None, shown: str) -> None:
    assert points(change) == shown


@pytest.mark.parametrize("form", [markdown_format, html_page, junit_xml, json_document])
def test_every_format_lists_what_was_exported(form: Any, fake_run: MakeRun) -> None:
    run = fake_run().good()
    run.exported(186, 30)
    text = form.render(of_lines([row_of(run)]))
    text = text if isinstance(text, str) else str(text)
    assert "ct2:int8" in text and "domain 1 of 60 transcripts changed, WER +1.00 points" in text
