"""The documentation holds together: pages, links and headings. `make docs` builds the site and asks the same of it."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from evidence_kit import GOOD

from core.plan.families import FAMILIES, FamilyFacts
from core.plan.validate import SECTIONS
from core.scoring.evidence import Thresholds
from core.scoring.verdict import judge
from lora_tui.__main__ import COMMANDS, EPILOG
from lora_tui.output import FORMATS
from lora_tui.request import add_arguments

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])


class _Site(yaml.SafeLoader):  # type: ignore[misc]
    """mkdocs.yml, without what its extensions put into it."""


_Site.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def _named(nav: Any) -> Iterator[str]:
    """The paths in a `nav` of mkdocs.yml, however deep."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _named(part)


def _headings(page: Path) -> set[str]:
    """The anchors of a page: its headings, as GitHub and the site name them, and those that it sets itself."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    own = re.findall(r'<a id="([^"]+)">', text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found} | {*own}


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    site = yaml.load((ROOT / "mkdocs.yml").read_text(), _Site)  # noqa: S506 - a SafeLoader
    named = list(_named(site["nav"]))
    assert sorted(named) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        if heading:
            assert heading in _headings(target), f"{page.name}: {link}"
        if page.is_relative_to(DOCS):
            # the site holds docs/ only, and no page for a folder
            assert target.is_file() and target.resolve().is_relative_to(DOCS), f"{page.name}: {link}"


@pytest.mark.parametrize("section", SECTIONS)
def test_the_shipped_plan_explains_every_key(section: str) -> None:
    plan = (ROOT / "experiments.toml").read_text()
    explained = set(re.findall(r"^(?:# )?(\w+) = [^#\n]+ # ", plan, flags=re.MULTILINE))
    assert {f.name for f in fields(SECTIONS[section]) if "doc" in f.metadata} <= explained


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_project_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"`((?:core|lora_tui|tests|benchmarks|docs)/[\w./-]+?\.(?:py|md|toml|svg))\b", page.read_text())
    assert [name for name in named if "NAME" not in name and not (ROOT / name).is_file()] == []


def test_every_room_is_in_the_table_of_the_structure() -> None:
    table = re.findall(r"^\| `([\w/]+)` \|", (DOCS / "structure.md").read_text(), flags=re.MULTILINE)
    rooms = [f"core/{folder.parent.name}" for folder in (ROOT / "core").glob("*/__init__.py")]
    assert set(rooms) | {"core", "lora_tui", "lora_tui/dashboard", "lora_tui/reports"} == set(table)


def test_the_tests_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for file, name in re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?", text):
        found = [path for path in (ROOT / "tests").rglob(file) if f"def {name}" in path.read_text()]
        assert found, f"{file}::{name}"


def test_every_criterion_is_in_the_readme() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert {criterion.title for criterion in judge(GOOD, Thresholds()).criteria} <= set(rows)


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_of_a_report_is_described_and_in_the_help(ending: str) -> None:
    assert f"| `{ending}` |" in (DOCS / "reports.md").read_text()
    parser = ArgumentParser()
    add_arguments(parser)
    assert ending in parser.format_help()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_named_in_the_help_and_in_the_docs(command: str) -> None:
    assert f"\n  lora-tui {command} " in EPILOG
    assert any(f"lora-tui {command}" in page.read_text() for page in PAGES)


def test_the_site_asks_no_other_host_for_anything() -> None:
    """No fonts from elsewhere, and no repository, of which the theme would ask GitHub for its stars."""
    site = yaml.load((ROOT / "mkdocs.yml").read_text(), _Site)  # noqa: S506 - a SafeLoader
    assert site["theme"]["font"] is False
    assert not {"repo_url", "extra_css", "extra_javascript"} & site.keys()
    for picture in DOCS.rglob("*.svg"):
        assert "url(" not in re.sub(r"url\(#", "", picture.read_text()), picture.name


@pytest.mark.parametrize("facts", FAMILIES, ids=lambda facts: facts.name)
def test_the_table_of_families_is_true(facts: FamilyFacts) -> None:
    rows = [line for line in (DOCS / "families.md").read_text().splitlines() if line.startswith(f"| `{facts.name}` |")]
    assert len(rows) == 1
    _, _, types, _, decoding, masks, language, sites, _ = (cell.strip() for cell in rows[0].split("|"))
    assert types == ", ".join(facts.model_types)
    assert decoding == ("greedy, beams" if facts.beams else "greedy")
    assert masks.startswith("yes" if facts.spectrogram else "no")
    words = {"refused": "none", "required": "required", "single": "one for all clips"}
    assert language.startswith(words[facts.language]) and ("task" in language) == bool(facts.tasks)
    assert sites == facts.default_sites
