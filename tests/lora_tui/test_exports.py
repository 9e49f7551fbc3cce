"""Reports for CI: JUnit, HTML, GitHub. Hostile texts stay texts, and what does not fit is counted."""

from __future__ import annotations

import html.parser
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from core.queue.__main__ import supervise
from core.runs.matrix import MatrixRow, unrun_row
from core.scoring.evidence import Criterion, Decision, State, Verdict
from lora_tui import diagnostics, github_actions, html_page, junit_xml, output
from lora_tui.__main__ import main

HOSTILE = "</script><b>&amp; ]]> \x1b[31m \ud800 \ufffe \u202e \"'\n::error::x %0A ##[error]y"
Capture = pytest.CaptureFixture[str]


def row(*states: State, text: str = HOSTILE) -> MatrixRow:
    criteria = tuple(Criterion(f"c{i}", text, state, None, None, "", text) for i, state in enumerate(states))
    decision = Decision.REJECTED if State.FAIL in states else Decision.UNDECIDED
    decision = Decision.ACCEPTED if set(states) == {State.PASS} else decision
    verdict = Verdict(criteria, decision, 100, True)
    return MatrixRow(
        text, text, text, "done", text, verdict=verdict, note=text, problems=(text,), evidence=((text, text),)
    )


def test_junit_counts_and_escapes() -> None:
    text = junit_xml.render([row(State.PASS, State.FAIL, State.UNKNOWN), unrun_row("b", "", "skipped", HOSTILE)])
    root = ElementTree.fromstring(text)  # noqa: S314 - our own text
    first, second = root
    assert (first.get("tests"), first.get("failures"), first.get("errors")) == ("3", "1", "1")
    assert [child.tag for case in first.findall("testcase") for child in case] == ["system-out", "failure", "error"]
    assert (second.get("skipped"), second[0][0].tag) == ("1", "skipped")
    assert "\x1b" not in text and "\u202e" not in text and "␛" in text


def test_a_run_that_broke_is_a_failure_in_junit() -> None:
    broken = row(State.PASS)
    assert broken.verdict is not None
    broken = replace(broken, verdict=replace(broken.verdict, decision=Decision.REJECTED))
    root = ElementTree.fromstring(junit_xml.render([broken]))  # noqa: S314 - our own text
    assert root[0].get("failures") == "1" and len(root.findall(".//failure")) == 1


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_the_html_page_is_alone_in_the_world() -> None:
    page = html_page.render([row(State.PASS, State.FAIL), unrun_row("b", "", "skipped", HOSTILE)])
    tags = Tags()
    tags.feed(page)
    allowed = [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "table",
        "tr",
        "th",
        "td",
        "h2",
        "p",
        "b",
        "ul",
        "li",
        "span",
        "br",
        "details",
        "summary",
        "dl",
        "dt",
        "dd",
    ]
    assert set(tags.seen) <= set(allowed) and set(tags.attributes) <= {
        "lang", "charset", "http-equiv", "content", "name", "class",
    }  # fmt: skip
    assert not re.search(r"https?:|src=|url\(", page) and "\x1b" not in page
    page.encode()


@pytest.mark.parametrize("render", [junit_xml.render, html_page.render, output._markdown])
def test_what_does_not_fit_is_counted(render: Any) -> None:
    rows = [row(State.PASS, State.FAIL) for _ in range(60)]
    text = output.within(30_000, rows, render)
    assert len(text.encode()) <= 30_000
    left = re.search(r"(\d+) rows left out", text)
    assert left is not None and 0 < int(left[1]) < 60


def gate(folder: Any, *arguments: str) -> int:
    runs = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    return main(["--headless", str(folder.plan), *runs, "--gate", "--no-train", *arguments])


def test_in_github_actions(folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
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
    assert summary.read_text() == out
    commands = [line for line in err.splitlines() if line.startswith("::")]
    assert len(commands) == 2 and commands[-1] == "::notice file=experiments.toml::2 more rows left out"
    line = folder.plan.read_text().splitlines().index('id = "x0"')
    assert commands[0].startswith(f"::error file=experiments.toml,line={line},title=x0%3A rejected::Domain gain: FAIL")
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
    folder: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    folder.write()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder.root / "no" / "folder"))
    assert gate(folder) == 5
    assert "cannot be written" in capsys.readouterr().err
