"""The run matrix as JUnit XML: a suite for each row, a test case for each criterion. Pure."""

from __future__ import annotations

from html import escape  # what it escapes and how is XML too; xml.sax would import a network client

from core.runs.headline import headline
from core.runs.matrix import verdict_word
from core.sanitise import sanitise
from core.scoring.certainty import sentence
from core.scoring.evidence import Criterion, State
from lora_tui.reports.report import Report, ReportRow

TEXT_LENGTH = 2000
"""Characters of one text; longer ones end in an ellipsis."""


def render(report: Report) -> str:
    """FAIL is a failure, UNKNOWN an error: neither may read as a pass. A row without a run is skipped."""
    suites = [_suite(row) for row in report.rows]
    if report.rows_left_out:
        suites.append(_case_suite("rows left out", f"{report.rows_left_out} rows left out", "error"))
    return '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n' + "".join(suites) + "</testsuites>\n"


def _suite(shown: ReportRow) -> str:
    row, name = shown.line, shown.line.name
    if row.verdict is None:
        return _case_suite(name, ": ".join(filter(None, (verdict_word(row), row.note))), "skipped")
    criteria = row.verdict.criteria
    failed = sum(c.state is State.FAIL for c in criteria)
    unknown = sum(c.state is State.UNKNOWN for c in criteria)
    seconds = "" if row.figures.duration_s is None else f' time="{row.figures.duration_s:.3f}"'
    # A run can be rejected with no criterion failing (it diverged), or be open while it goes on.
    broken = row.verdict.decision.value != "accepted" and not failed and not unknown
    counts = f'tests="{len(criteria) + broken}" failures="{failed + broken}" errors="{unknown}" skipped="0"'
    head = f"  <testsuite name={_attribute(name)} {counts}{seconds}>\n    <properties>\n"
    findings = [(f"{group.title}: {name}", value) for group in shown.findings for name, value in group.facts]
    facts = (
        *(("Remark", remark) for remark in row.remarks),
        ("Verdict", verdict_word(row)),
        ("Where it stands", headline(row).text),
        *shown.evidence,
        *findings,
    )
    head += "".join(f"      <property name={_attribute(k)} value={_attribute(v)}/>\n" for k, v in facts)
    cases = "".join(_case(row.key, criterion) for criterion in criteria)
    if broken:
        cases += _open(row.key, "Run", "failure", row.note)
    return f"{head}    </properties>\n{cases}  </testsuite>\n"


def _case(experiment: str, criterion: Criterion) -> str:
    said = criterion.reason
    if criterion.certainty is not None:
        said += f" {sentence(criterion.certainty, criterion.name)}"
    if criterion.state is State.PASS:
        names = f"classname={_attribute(experiment)} name={_attribute(criterion.title)}"
        return f"    <testcase {names}>\n      <system-out>{_text(said)}</system-out>\n    </testcase>\n"
    return _open(experiment, criterion.title, "failure" if criterion.state is State.FAIL else "error", said)


def _open(experiment: str, name: str, element: str, message: str) -> str:
    names = f"classname={_attribute(experiment)} name={_attribute(name)}"
    return f"    <testcase {names}>\n      <{element} message={_attribute(message)}/>\n    </testcase>\n"


def _case_suite(name: str, message: str, element: str) -> str:
    counts = f'tests="1" failures="0" errors="{int(element == "error")}" skipped="{int(element == "skipped")}"'
    case = _open(name, "Run", element, message)
    return f"  <testsuite name={_attribute(name)} {counts}>\n{case}  </testsuite>\n"


def _clean(text: str) -> str:
    return sanitise(text, TEXT_LENGTH)


def _attribute(text: str) -> str:
    return f'"{escape(_clean(text))}"'


def _text(text: str) -> str:
    return escape(_clean(text), quote=False)
