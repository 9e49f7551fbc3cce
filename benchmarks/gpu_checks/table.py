"""The table: what was looked at, what was seen, what may be seen at most, and whether it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

PASS, FAIL, SKIPPED = "PASS", "FAIL", "SKIPPED"
_COLUMNS = ("check", "seen", "limit", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One check."""

    check: str
    seen: str
    limit: str
    verdict: str


@dataclass(slots=True)
class Table:
    """Rows in the order in which they were found; written after each: a script that is cut off has told what it saw."""

    heading: str
    out: Path | None
    rows: list[Row] = field(default_factory=list)

    def add(self, check: str, seen: str, limit: str, passed: bool | None) -> None:
        """A row; `passed` None: skipped, for the reason in `seen`."""
        verdict = SKIPPED if passed is None else PASS if passed else FAIL
        self.rows.append(Row(check, " ".join(seen.split()), limit, verdict))
        print(f"{verdict:8}{check}: {self.rows[-1].seen}", flush=True)
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(self.markdown())

    @property
    def passed(self) -> bool:
        """Whether something passed and nothing failed."""
        verdicts = {row.verdict for row in self.rows}
        return PASS in verdicts and FAIL not in verdicts

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [" | ".join(_COLUMNS), " | ".join(["---"] * len(_COLUMNS))]
        lines += [" | ".join(_escaped(cell) for cell in _cells(row)) for row in self.rows]
        return f"{self.heading}\n\n" + "".join(f"| {line} |\n" for line in lines)


def _cells(row: Row) -> tuple[str, str, str, str]:
    return row.check, row.seen, row.limit, row.verdict


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
