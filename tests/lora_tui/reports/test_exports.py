"""Reports for CI: JUnit, HTML, GitHub. Hostile texts stay texts, and what does not fit is counted."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plan_folder import PlanFolder

from core.queue.__main__ import supervise
from core.runs.row import Figures, Outcome, Row, Wer
from core.runs.status import Status
from core.scoring.evidence import Criterion, Decision, State, Verdict
from core.scoring.side_by_side import columns, compare
from lora_tui import diagnostics
from lora_tui.__main__ import main
from lora_tui.reports import csv_table, github_actions, html_page, json_document, junit_xml, markdown
from lora_tui.reports import svg as pictures
from lora_tui.reports.clips import ClipReport
from lora_tui.reports.curves import Chart, Level, Line
from lora_tui.reports.report import Findings, Report, ReportRow, fit, of_lines

HOSTILE = "</script><b>&amp; ]]> \x1b[31m \ud800 \ufffe \u202e \"'\n::error::x %0A ##[error]y ``` =cmd()|x"
Capture = pytest.CaptureFixture[str]
anything = st.text(st.characters(exclude_categories=[])) | st.sampled_from(
    [
        HOSTILE,
        "a|b",
        "| --- |",
        "``` x",
        "<script>alert(1)</script>",
        "]]>",
        "=cmd()",
        "\n::error::x",
        "-->",
        "' onload='x",
    ]
)


def row(*states: State, text: str = HOSTILE) -> ReportRow:
    """A row in which every text is `text`, with a chart and a clip."""
    criteria = tuple(Criterion(f"c{i}", text, state, None, None, "", text) for i, state in enumerate(states))
    decision = Decision.REJECTED if State.FAIL in states else Decision.UNDECIDED
    decision = Decision.ACCEPTED if set(states) == {State.PASS} else decision
    verdict = Verdict(criteria, decision, 100, True)
    run: Any = SimpleNamespace(name=text, root=text)
    figures = Figures(note=text)
    line = Row("plan:x", text, Status.DONE, title=text, settings=text, run=run, figures=figures, verdict=verdict)
    line = replace(line, outcome=Outcome.REJECTED)
    clip = compare(text, "one two", f"one {text}", text)
    clips = (ClipReport("domain", clip.id, "worst", (1, 2), 0, 1, tuple(columns(clip))),)
    chart = Chart("loss", "Loss", "nats", (Line(text, ((0, 2.0), (1, None), (2, 1.0))),), (Level(text, 1.5),), 1)
    return ReportRow(line, (text,), ((text, text),), (Findings(text, ((text, text),)),), (), (chart,), clips)


def report(*rows: ReportRow) -> Report:
    return Report(rows)


UNRUN = ReportRow(Row("plan:b", "b", Status.SKIPPED, HOSTILE, outcome=Outcome.SKIPPED))


def test_junit_counts_and_escapes() -> None:
    text = junit_xml.render(report(row(State.PASS, State.FAIL, State.UNKNOWN), UNRUN))
    root = ElementTree.fromstring(text)  # noqa: S314 - our own text
    first, second = root
    assert (first.get("tests"), first.get("failures"), first.get("errors")) == ("3", "1", "1")
    assert [child.tag for case in first.findall("testcase") for child in case] == ["system-out", "failure", "error"]
    assert (second.get("skipped"), second[0][0].tag) == ("1", "skipped")
    assert "\x1b" not in text and "\u202e" not in text and "␛" in text


def test_a_run_that_broke_is_a_failure_in_junit() -> None:
    broken = row(State.PASS).line
    assert broken.verdict is not None
    broken = replace(broken, verdict=replace(broken.verdict, decision=Decision.REJECTED))
    root = ElementTree.fromstring(junit_xml.render(of_lines([broken])))  # noqa: S314 - our own text
    assert root[0].get("failures") == "1" and len(root.findall(".//failure")) == 1


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


TAGS = """
html head meta title style body h1 h2 h3 div table tr th td p b ul li span br details summary dl dt dd pre wbr
svg text line polyline circle rect
"""
ATTRIBUTES = """
lang charset http-equiv content name class role aria-label viewbox width height x y x1 x2 y1 y2 text-anchor points
r cx cy
"""


@given(anything)
@example("+ a + in the words")
@settings(max_examples=40, deadline=None)
def test_the_html_page_is_alone_in_the_world(text: str) -> None:
    page = html_page.render(report(row(State.PASS, State.FAIL, text=text), UNRUN))
    tags = Tags()
    tags.feed(page)
    assert tags.seen <= set(TAGS.split()) and tags.attributes <= set(ATTRIBUTES.split())
    # Addresses may be shown, as text; nothing may fetch one.
    assert not re.search(r"(src|href|url)\s*[=(]", re.sub(r">[^<]*<|=\"[^\"]*\"", "", page)) and "\x1b" not in page
    page.encode()


@given(anything)
@settings(max_examples=40, deadline=None)
def test_no_text_breaks_a_format(text: str) -> None:
    whole = report(row(State.PASS, State.FAIL, text=text))
    for element in ElementTree.fromstring(junit_xml.render(whole)).iter():  # noqa: S314 - our own text
        assert element.tag in (
            "testsuites", "testsuite", "properties", "property", "testcase", "system-out", "failure",
        )  # fmt: skip
    for _, picture in pictures.files(whole).values():
        assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314
    document = json_document.render(whole)
    assert json.loads(document)["rows"][0]["title"] == text
    assert document.isascii() and "##[" not in document
    assert not any(line.lstrip().startswith("::") for line in document.splitlines())
    table = csv_table.render(whole)
    [line] = csv.DictReader(io.StringIO(table))
    assert not any(str(cell).lstrip(" ").startswith(tuple("=+@-")) for cell in line.values())
    commands = github_actions.workflow_commands(whole, "experiments.toml", {})
    assert len(commands) == 1 and "\n" not in commands[0] and commands[0].count("::") >= 2
    assert re.match(r"::error file=experiments\.toml,title=[^,:\n]*::", commands[0])


@given(anything)
@settings(max_examples=60, deadline=None)
def test_markdown_shows_texts_as_texts(text: str) -> None:
    found = markdown.render(report(row(State.PASS, State.FAIL, text=text)), {(text, "loss"): "a b/x.svg"})
    assert "![Loss](a%20b/x.svg)" in found
    fences = [line for line in found.split("\n") if re.match("`{3,}", line)]
    assert len(fences) == 2 and fences[0] == f"{fences[1]}text"
    start, end = (found.index(f"\n{fence}\n") for fence in fences)
    outside, inside = found[:start] + found[end:], found[start:end]
    assert "<" not in outside and fences[1] not in inside[len(fences[0]) + 1 :]
    assert not any(line.lstrip().startswith("::") or "##[" in line for line in outside.split("\n"))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", found)
    widths = {
        line.replace("\\\\", "").replace("\\|", "").count("|") for line in outside.split("\n") if line[:2] == "| "
    }
    assert len(widths) == 2, "the matrix and the criteria"
    found.encode()


@pytest.mark.parametrize("render", [junit_xml.render, html_page.render, markdown.render])
def test_what_does_not_fit_is_counted(render: Any) -> None:
    whole = report(*(row(State.PASS, State.FAIL) for _ in range(60)))
    text = fit(whole, 20_000, render)
    assert len(text.encode()) <= 20_000
    left = re.search(r"(\d+) rows left out", text)
    assert left is not None and 0 < int(left[1]) < 60


@pytest.mark.parametrize("render", [html_page.render, markdown.render])
def test_the_table_stays_whole_while_details_go(render: Any) -> None:
    rows = [row(State.PASS, State.FAIL, text=f"run {number}") for number in range(40)]
    half = len(render(report(*rows)).encode()) // 2
    text = fit(report(*rows), half, render)
    assert len(text.encode()) <= half and "run 39" in text
    assert re.search(r"the details of \d+ rows left out", text) and "rows left out" in text


def gate(folder: PlanFolder, *arguments: str) -> int:
    runs = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    return main(["--headless", str(folder.plan), *runs, "--gate", "--no-train", *arguments])


def test_in_github_actions(
    folder: PlanFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    runs = "".join(f'[[experiment]]\nid = "x{i}"\ntrain.seed = {i}\n' for i in range(3))
    folder.write(runs, queue='until = "all"')
    folder.script(**{f"x{i}": ["poor"] for i in range(2)})
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    summary = tmp_path / "summary.md"
    monkeypatch.setattr(github_actions, "ANNOTATIONS", 2)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder.root))
    exports = [str(tmp_path / f"m{suffix}") for suffix in (".xml", ".html")]
    code = gate(folder, *(part for name in exports for part in ("--export", name)))
    out, err = capsys.readouterr()
    assert code == 0, "the format never changes the code: x2 is accepted"
    assert summary.read_text().startswith(out.partition("\n## ")[0]) and "domain, best: " in summary.read_text()
    commands = [line for line in err.splitlines() if line.startswith("::")]
    assert len(commands) == 2 and commands[-1] == "::notice file=experiments.toml::2 more rows left out"
    line = folder.plan.read_text().splitlines().index('id = "x0"')
    where = f"::error file=experiments.toml,line={line},title=x0%3A rejected::"
    assert commands[0].startswith(f"{where}Judged by a gate looser than the default: stability after 0")
    assert "instead of 1000. 3 runs were judged on these sets" in commands[0]
    assert " rejected: step " in commands[0] and " Domain change: FAIL" in commands[0]
    root = ElementTree.parse(exports[0]).getroot()  # noqa: S314 - our own file
    assert len(root) == 3 and "x2" in Path(exports[1]).read_text()
    monkeypatch.delenv("GITHUB_ACTIONS")
    gate(folder)
    assert not any(line.startswith("::") for line in capsys.readouterr().err.splitlines())


def test_no_text_from_outside_commands_the_runner(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    diagnostics.say("a\n  ::add-mask::secret\n##[error]x", multiline=True)
    err = capsys.readouterr().err
    assert not any(line.lstrip().startswith("::") for line in err.splitlines()) and "##[" not in err


def test_a_summary_that_cannot_be_written_is_only_a_warning(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    folder.write()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder.root / "no" / "folder"))
    assert gate(folder) == 5
    assert "cannot be written" in capsys.readouterr().err


def test_csv_rounds_what_is_no_digit_of_a_count() -> None:
    figures = Figures(domain=Wer(baseline=100 * 1.11, tuned=111.00000000000001), duration_s=1 / 3)
    table = csv_table.render(report(ReportRow(Row("plan:a", "a", figures=figures))))
    assert ",111.0,111.0,," in table and ",0.333333," in table


def test_a_row_without_a_run_and_a_reason_is_skipped_in_junit() -> None:
    text = junit_xml.render(report(ReportRow(Row("plan:b", "b"))))
    assert '<skipped message="not run"/>' in text


REMARK = "Judged by a gate looser than the default: gain ≥ 0.1 instead of 1.0."


def test_what_must_be_known_first_heads_every_report() -> None:
    plain = row(State.PASS, text="2.1")
    assert plain.line.verdict is not None
    verdict = replace(plain.line.verdict, loosened=("gain ≥ 0.1 instead of 1.0",), remarks=(REMARK,))
    found = report(replace(plain, line=replace(plain.line, verdict=verdict, outcome=Outcome.ACCEPTED)))
    assert markdown.render(found).index(REMARK) < markdown.render(found).index("| Experiment")
    page = html_page.render(found)
    assert page.index(html.escape(REMARK)) < page.index("<table")
    [line] = csv.DictReader(io.StringIO(csv_table.render(found)))
    assert line["remarks"] == REMARK
    document = json.loads(json_document.render(found))
    assert list(document)[:3] == ["schema", "exit_code", "remarks"]
    assert document["remarks"] == document["rows"][0]["remarks"] == [REMARK]
    suite = ElementTree.fromstring(junit_xml.render(found))[0]  # noqa: S314 - our own text
    first = suite[0][0]
    assert (first.get("name"), first.get("value")) == ("Remark", REMARK)
    [command] = github_actions.workflow_commands(found, "plan.toml", {})
    assert f"::{REMARK} done. " in command


def test_a_remark_on_some_rows_names_them() -> None:
    loose, strict = row(State.PASS, text="2.1"), row(State.PASS, text="2.2")
    assert loose.line.verdict is not None
    verdict = replace(loose.line.verdict, remarks=(REMARK,))
    found = report(replace(loose, line=replace(loose.line, verdict=verdict)), strict)
    assert found.remarks() == (f"2.1: {REMARK}",)
