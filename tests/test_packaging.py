"""What is installed beside the modules."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["core", "lora_tui"])
def test_type_checkers_of_others_read_our_types(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"][package]


def _starts_python(node: ast.AST) -> bool:
    """Whether it is a command, as a list or tuple, that begins with this Python."""
    return isinstance(node, (ast.List, ast.Tuple)) and bool(node.elts) and ast.unparse(node.elts[0]) == "sys.executable"


def test_no_process_of_ours_imports_from_the_working_folder() -> None:
    """`-P` leaves it out: a runs folder, or a project of the user's, may hold a torch.py."""
    commands = [
        (path, node)
        for room in ("core", "lora_tui")
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if _starts_python(node)
    ]
    assert len(commands) >= 8
    for path, node in commands:
        assert isinstance(node, (ast.List, ast.Tuple))
        assert ast.unparse(node.elts[1]) == "'-P'", f"{path}:{node.lineno}"
