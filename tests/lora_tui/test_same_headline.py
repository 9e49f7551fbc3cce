"""Board, `status`, `queue list`, reports, notification and headless output say the same sentence of a run."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

import pytest
from plan_folder import PlanFolder, supervise
from waiting import wait_for

from core.errors import ExitCode
from core.manifests.hashing import HashCache
from core.queue.execution import PlanExecution
from core.queue.report import report
from core.runs.headline import headline
from core.sanitise import escape_markdown, escape_markdown_cell
from lora_tui.__main__ import main
from lora_tui.dashboard.reading.plan_rows import PlanRows
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.snapshots import Want
from lora_tui.dashboard.screens.matrix import matrix_of
from lora_tui.dashboard.screens.panels import VerdictPanel
from lora_tui.reports import csv_table, github_actions, html_page, json_document, junit_xml, markdown
from lora_tui.reports.report import assemble

KEYS = ("good", "poor", "broken", "short")
PLAN = "".join(f'[[experiment]]\nid = "{key}"\ntrain.seed = {seed}\n' for seed, key in enumerate(KEYS))
WHERE = "later"


@pytest.fixture
def ended(folder: PlanFolder) -> PlanFolder:
    """Runs that ended in several ways, and a row that never began; a program of the user's heard of each end."""
    hears = [sys.executable, "-c", "import sys; open('heard.jsonl', 'a').write(sys.stdin.read())"]
    queue = f'until = "all"\nretries = 0\npause_after = 0\nnotify = {json.dumps(hears)}'
    folder.write(PLAN + f'[[experiment]]\nid = "{WHERE}"\nwhen = "rejected"\nafter = ["good"]\n', queue)
    folder.script(poor=["poor"], broken=["diverge"])
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    return folder


def test_no_face_says_another_sentence(ended: PlanFolder, capsys: pytest.CaptureFixture[str]) -> None:
    execution = PlanExecution(ended.submission(), ended.runs, HashCache(ended.runs.hash_cache))
    execution.assign_all()
    rows = report(execution, {})
    told = {row.key: headline(row).text for row in rows}
    assert told["good"].startswith("SHIP good step ") and told["poor"].startswith("rejected: "), told
    assert len(set(told.values())) >= 4
    of_runs = {key: text for key, text in told.items() if key in KEYS}

    found = assemble(execution, rows, ExitCode.ACCEPTED, details=False)
    document = json.loads(json_document.render(found))
    assert {row["experiment"]: row["headline"] for row in document["rows"]} == told
    table = csv.DictReader(io.StringIO(csv_table.render(found)))
    assert {row["experiment"]: row["headline"] for row in table} == told
    text, page, junit = markdown.render(found), html_page.render(found), junit_xml.render(found)
    annotations = "\n".join(github_actions.workflow_commands(found, "plan.toml", {}))
    for sentence in of_runs.values():
        assert escape_markdown_cell(sentence)[:150] in text and escape_markdown(sentence) in text
        assert sentence.partition("(")[0][:60] in page and sentence.partition("(")[0][:60] in junit
        assert sentence.partition(" %")[0] in annotations

    where = ["--runs", str(ended.runs.root), "--state", str(ended.runs.state)]

    def said(*command: str) -> list[dict[str, Any]]:
        capsys.readouterr()
        assert main([*command, *where]) == 0
        return list(json.loads(capsys.readouterr().out)["rows"])

    assert {row["key"]: row["headline"] for row in said("status", str(ended.plan), "--json")} == told

    source = FolderSource(ended.runs, PlanRows(ended.plan, ended.runs))
    board: dict[str, str] = {}

    def settled() -> bool:
        board.update({row.key: headline(row).text for row in source.read(Want()).rows})
        return board == told

    wait_for(settled)
    shown = source.read(Want())
    for row in shown.rows:
        panel = VerdictPanel(ascii_only=False)
        panel.row = row
        assert "".join(text for text, _ in panel.paint(1000, 10)[0]) == told[row.key]
    matrix = matrix_of(shown.rows)
    for (_, cells), row in zip(matrix.rows, shown.rows, strict=True):
        assert cells[-1].text[:40] == told[row.key][:40]

    heard = [json.loads(line) for line in (ended.plan.parent / "heard.jsonl").read_text().splitlines()]
    assert {one["rows"][0]: one["headline"] for one in heard if one["event"] == "run_ended"} == of_runs

    capsys.readouterr()
    main(["--headless", str(ended.plan), "--no-train", *where])
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    for key, sentence in told.items():
        assert sentence in lines or key == WHERE, key


def test_the_queue_says_it_too(ended: PlanFolder, capsys: pytest.CaptureFixture[str]) -> None:
    ended.db.submit(ended.submission())
    where = ["--runs", str(ended.runs.root), "--state", str(ended.runs.state)]
    assert main(["status", str(ended.plan), "--json", *where]) == 0
    status = {row["key"]: row["headline"] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert main(["queue", "list", "--json", *where]) == 0
    listed = {row["experiment"]: row["headline"] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert listed == status
    assert main(["queue", "list", *where]) == 0
    assert status["good"] in capsys.readouterr().out
