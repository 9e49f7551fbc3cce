"""What lists, reads, writes or deletes files does so through core.system.files and core.runs.folder, or is named here.

Those two refuse links, FIFOs and devices; a plain `open` or `rmtree` elsewhere would bring back readers that hang and
prunes that delete a user's own files.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[3]
ROOMS = ("core/system", "core/runs", "core/queue", "core/training", "core/sinks", "core/export", "core/cli", "lora_tui")
"""core.plan and core.scoring do no I/O, and core.audio and core.manifests know no run folder."""
METHODS = frozenset(
    ("glob", "hardlink_to", "iterdir", "open", "read_bytes", "read_text", "rglob", "rmdir", "symlink_to", "touch",
     "unlink", "write_bytes", "write_text")
)  # fmt: skip
FUNCTIONS = frozenset(
    ("os.link", "os.listdir", "os.open", "os.remove", "os.removedirs", "os.rename", "os.replace", "os.rmdir",
     "os.scandir", "os.symlink", "os.truncate", "os.unlink", "os.walk", "open", "io.open", "json.load")
)  # fmt: skip
WHOLE_MODULES = frozenset(("shutil",))
BY_PATH = frozenset(("append_line", "write_bytes", "write_json", "write_text"))
"""Of core.system.files: they write where a path leads, through links too, so nothing in a runs folder is written so."""
NAMED: dict[str, frozenset[str]] = {
    module: frozenset(calls.split())
    for module, calls in {
        # the names in a runs folder; whoever reads what is there goes through the two
        "core/runs/paths.py": "os.listdir",
        # the user's own model folder, whose weights and links are the user's
        "core/runs/model_files.py": "glob",
        "core/runs/model_check.py": "glob iterdir",
        "core/training/pretrain.py": "shutil files.write_json",
        # the state folder, /proc, the package itself, and what the shell gives
        "core/runs/fold.py": "read_bytes unlink",
        "core/system/files.py": "os.open",
        "core/system/locks.py": "os.open read_text iterdir",
        "core/system/seals.py": "os.open read_bytes hardlink_to unlink",
        "core/system/process.py": "read_text iterdir",
        "core/queue/requests.py": "open",
        "core/queue/client.py": "rglob read_bytes",
        "core/queue/gpu/available.py": "open",
        "core/cli/__main__.py": "os.open",
        "lora_tui/output.py": "open files.write_text",
        "lora_tui/dashboard/reading/reader.py": "unlink",
        "lora_tui/dashboard/memory.py": "files.write_json",
        "lora_tui/dashboard/reading/row_index.py": "os.walk files.write_text",
        "lora_tui/diagnostics.py": "files.write_text",
        # settings of the machine, which a doctor looks at
        "core/cli/doctor_checks.py": "glob shutil",
        # recordings that a user names, and their transcripts; the folder of a demo, and what is installed
        "core/cli/transcribe_command.py": "glob open shutil files.write_text",
        "lora_tui/demo_command.py": "glob read_bytes files.write_bytes",
        # what a user names: a plan, a manifest, a report, a score, a card
        "core/cli/commands.py": "files.write_json",
        # the folder that an export is written to, and the process that judges it there
        "core/export/exporting.py": "open os.walk shutil files.write_json files.write_text",
        "core/export/lora.py": "files.write_bytes files.write_json",
        "core/export/onnx.py": "files.write_json",
        "core/export/serve.py": "files.write_json",
        "core/cli/data_commands.py": "files.write_bytes files.write_text",
        "core/runs/model_card.py": "files.write_text",
        "lora_tui/dashboard/actions.py": "files.write_text",
        "lora_tui/init_command.py": "files.write_text",
        "lora_tui/plan_command.py": "files.write_text",
        # a replay's own temporary folder, and a look at what it replays
        "lora_tui/dashboard/reading/replay.py": "glob iterdir open symlink_to unlink write_bytes write_text",
    }.items()
}
THE_TWO = ("core/system/files.py", "core/runs/folder.py")


def by_path(tree: ast.Module) -> dict[str, str]:
    """What a module calls the writers by path of core.system.files → their names."""
    return {
        name.asname or name.name: name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "core.system.files"
        for name in node.names
        if name.name in BY_PATH
    } | {f"files.{name}": name for name in BY_PATH}


def calls(source: str) -> Iterator[tuple[int, str]]:
    """(line, what is called) of each call that touches files past the two modules, or writes by path through them."""
    tree = ast.parse(source)
    writers = by_path(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in writers:
            yield node.lineno, f"files.{writers[name]}"
            continue
        module, _, last = name.rpartition(".")
        if module in WHOLE_MODULES:
            yield node.lineno, module
        elif name in FUNCTIONS:
            yield node.lineno, name
        elif module and name not in OURS and last in METHODS:
            yield node.lineno, last


OURS = ("_Nvml.open",)
"""Functions of these names that open no file."""


def modules() -> list[str]:
    return [
        str(path.relative_to(HERE))
        for room in ROOMS
        for path in sorted((HERE / room).rglob("*.py"))
        if str(path.relative_to(HERE)) not in THE_TWO
    ]


@pytest.mark.parametrize("module", modules())
def test_files_are_touched_in_one_place(module: str) -> None:
    found = [
        f"{module}:{line}: {call}: read with core.system.files, write with core.runs.folder"
        for line, call in calls((HERE / module).read_text(encoding="utf-8"))
        if call not in NAMED.get(module, ())
    ]
    assert not found, "\n".join(found)


def test_what_is_named_is_there() -> None:
    for module, named in NAMED.items():
        found = {call for _, call in calls((HERE / module).read_text(encoding="utf-8"))}
        assert named <= found, f"{module}: no longer calls {sorted(named - found)}: take it off the list"


@pytest.mark.parametrize(
    "line",
    ["shutil.rmtree(path)", "path.unlink()", "open(p)", "p.open('rb')", "os.remove(p)", "list(p.iterdir())",
     "(a / b).read_bytes()", "json.load(f)", "p.rglob('*.tmp')", "files.write_json(p, {})",
     "from core.system.files import write_json as put\nput(p, {})"],
)  # fmt: skip
def test_such_calls_are_seen(line: str) -> None:
    assert list(calls(line))
