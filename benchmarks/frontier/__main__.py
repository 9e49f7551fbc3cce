"""How much an adapter may gain without forgetting: settings × seeds, trained and judged by the product itself.

    python -m benchmarks.frontier [PLAN…] [--runs DIR] [--only EXPERIMENT…] [--no-train] [-o docs/frontier]

Each PLAN is an ordinary plan with a row for each setting and seed (default: those beside this file, and the digits
plan); `lora-tui --headless` trains what is left of it, into DIR/NAME. Whatever ends this script, the next call goes on
where it was, as runs do. Then every row is read from its run folder, and FILE.json, FILE.svg and the tables of FILE.md
are written: the gain and the regression of each run with their 95 % intervals, what each setting comes to over its
seeds, and which rows have not been run. FILE.md keeps the text around its tables (between the marker lines).

With --no-train nothing is started. The digits and Whisper tiny.en lie beside the project; the embedded speech is that
of `make data`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.frontier.pages import draw, into_page, tables
from benchmarks.frontier.rows import Study, document, study

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLANS = tuple(sorted(HERE.glob("*.toml")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is left, then write what there is. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Gain and regression of settings over seeds, from run folders.")
    parser.add_argument("plans", nargs="*", type=Path, metavar="PLAN", help="default: those of benchmarks/frontier")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs-frontier", help="default: runs-frontier")
    parser.add_argument("--only", action="append", default=[], metavar="EXPERIMENT", help="repeatable")
    parser.add_argument("--no-train", action="store_true", help="read what is in the run folders")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="FILE.json, FILE.svg, FILE.md")
    args = parser.parse_args(arguments)
    studies: list[Study] = []
    for plan in args.plans or PLANS:
        runs = args.runs.absolute() / plan.parent.name / plan.stem
        if not args.no_train:
            _train(plan.absolute(), runs, args.only)
        studies.append(study(plan.absolute(), runs))
        _write(studies, args.output)
    return 0


def _train(plan: Path, runs: Path, only: Sequence[str]) -> None:
    """What is left of the plan, by the product. Its own lines go to stderr."""
    runs.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "lora_tui", "--headless", str(plan), "--runs", str(runs)]
    chosen = [word for name in only for word in ("--only", name)]
    subprocess.run([*command, *chosen], stdout=subprocess.DEVNULL, check=False)


def _write(studies: Sequence[Study], output: Path | None) -> None:
    text = "\n".join(tables(studies))
    if output is None:
        print(text)
        return
    output.with_suffix(".json").write_text(document(studies))
    output.with_suffix(".svg").write_text(draw(studies))
    page = output.with_suffix(".md")
    page.write_text(into_page(page.read_text() if page.exists() else "", text))


if __name__ == "__main__":
    sys.exit(main())
