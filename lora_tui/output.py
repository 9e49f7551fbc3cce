"""Owns the files of reports: data for people and programs. Talk goes to stderr (`lora_tui.diagnostics`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from core.errors import UserError
from core.runs.folder import write_text as write_inside
from core.system.files import write_text
from lora_tui.reports import csv_table, github_actions, json_document, markdown
from lora_tui.reports.report import Report, fit

COMMENT = ".comment.md"
"""Ending of the name of a comment on a pull or merge request."""
EXPORT_BYTES = 8_000_000
"""Largest export: what does not open is no report. JSON and CSV are for programs and never cut."""


def check_exports(paths: Sequence[Path]) -> None:
    """UserError for a format that cannot be written: said before anything is trained."""
    for path in paths:
        suffix = path.suffix.lower()
        if suffix not in FORMATS:
            raise UserError(f"--export {path}: the name must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
        folder = path.absolute().parent
        if not folder.is_dir():
            there = next(place for place in (folder, *folder.parents) if place.exists())
            if not there.is_dir():
                raise UserError(f"--export {path}: {there} is a file, not a folder: name another place")
            raise UserError(f"--export {path}: no such folder: create {folder}")
        if path.is_dir():
            raise UserError(f"--export {path}: is a folder: name a file")


def export(path: Path, report: Report) -> None:
    """Write the report in the format of the name's ending. UserError when it cannot be written."""
    try:
        write_text(path, _RENDERERS[path.suffix.lower()](path, report))
    except OSError as error:
        raise UserError(f"--export {path}: cannot be written: {error.strerror or error}") from error


def _junit(_path: Path, report: Report) -> str:
    from lora_tui.reports import junit_xml

    return fit(report, EXPORT_BYTES, junit_xml.render)


def _html(_path: Path, report: Report) -> str:
    from lora_tui.reports import html_page

    return fit(report, EXPORT_BYTES, html_page.render)


def _markdown(path: Path, report: Report) -> str:
    """The Markdown; the charts it shows are written into a folder beside it. `….comment.md` is short, without any."""
    if path.name.lower().endswith(COMMENT):
        from lora_tui.reports import comment

        return comment.render(report)
    from lora_tui.reports import svg as pictures

    drawn = pictures.files(report)
    beside, folder = path.absolute().parent.resolve(), f"{path.stem}_files"
    for name, text in drawn.values():
        write_inside(beside, beside / folder / name, text)
    places = {key: f"{folder}/{name}" for key, (name, _) in drawn.items()}
    return fit(report, EXPORT_BYTES, lambda cut: markdown.render(cut, places))


_RENDERERS: Mapping[str, Callable[[Path, Report], str]] = {
    ".md": _markdown,
    ".csv": lambda _path, report: csv_table.render(report),
    ".json": lambda _path, report: json_document.render(report),
    ".xml": _junit,
    ".html": _html,
}
"""The text of a report, by the ending of its file's name."""
FORMATS = tuple(_RENDERERS)


def step_summary(report: Report) -> str | None:
    """Append the report to GitHub's step summary, where there is one; what was wrong, or None."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return None
    text = fit(report, github_actions.SUMMARY_BYTES, markdown.render)
    try:
        with Path(path).open("a", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        return f"the step summary {path} cannot be written: {error.strerror}"
    return None
