"""What is installed beside the modules."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["core", "lora_tui"])
def test_type_checkers_of_others_read_our_types(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"][package]
