"""The import rules, in fresh interpreters: what importing a room, or asking for help, brings into memory."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import core
import lora_tui
from lora_tui.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "peft")
FACES = ("textual", "rich", "lora_tui")


def modules_of(*names: str) -> list[str]:
    """All modules of the packages, except what runs when it is imported."""
    found = []
    for name in names:
        package = __import__(name, fromlist=["__path__"])
        found += [name, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{name}."))]
    return sorted(m for m in found if not m.endswith("__main__"))


def in_memory(script: str) -> set[str]:
    """The top-level packages, and ours by full name, in memory after `script` ran in a fresh interpreter."""
    code = f"{script}\nimport sys\nprint('\\n'.join(sys.modules), file=sys.__stderr__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=os.environ | {"COLUMNS": "100"}
    )
    assert done.returncode == 0, done.stderr
    names = set(done.stderr.split("\n"))
    return names | {name.partition(".")[0] for name in names}


def imported(*modules: str) -> set[str]:
    return in_memory("\n".join(f"import {name}" for name in modules))


def without(forbidden: tuple[str, ...], found: set[str]) -> None:
    assert sorted(set(forbidden) & found) == []


@pytest.mark.parametrize(
    "room", ["system", "plan", "scoring", "audio", "manifests", "audit", "corpus", "runs", "queue"]
)
def test_a_room_of_the_engine_brings_neither_models_nor_faces(room: str) -> None:
    without((*HEAVY, *FACES, "core.training"), imported(*modules_of(f"core.{room}")))


def test_training_and_lora_cli_know_no_face() -> None:
    modules = list(modules_of("core.training", "core.cli"))
    without(FACES[:1] + FACES[2:], imported(*modules))


def test_the_commands_of_lora_cli_do_not_import_models_until_they_run() -> None:
    without((*HEAVY, "core.training"), imported(*modules_of("core.cli")))


def test_lora_tui_imports_no_models() -> None:
    headless = [m for m in modules_of("lora_tui") if "dashboard" not in m]
    without((*HEAVY, "core.training", "core.cli"), imported(*headless, "lora_tui.__main__"))


SOUND_ROOMS = ("core.audio", "core.manifests", "core.audit", "core.corpus")
LATE = ("numpy", "msgspec", "jiwer", "tomli", "sqlite3", "ctypes", "core.plan", "core.scoring.evidence", *SOUND_ROOMS)
"""What the board needs only to read: its first frame must not wait for it."""


def test_the_first_frame_of_the_dashboard_waits_for_nothing_but_textual(tmp_path: Path) -> None:
    """The modules in memory when the reader is put together, which is when the first frame is on the screen."""
    script = f"""
from pathlib import Path
from core.runs.paths import RunsFolder
from lora_tui.__main__ import _face_parser
from lora_tui import dashboard_command
from lora_tui.dashboard import face
from lora_tui.dashboard.options import Options
import sys

_face_parser().parse_args([])
seen = []
def folder_source(options, runs, index):
    app = apps[0]
    text = "".join(s.text for strip in app.screen._compositor.render_strips(app.size) for s in strip)
    seen.append((set(sys.modules), text))
    app.call_from_thread(app.exit)
    sys.exit()
face._folder_source = folder_source
apps = []
run = face.Dashboard.run
face.Dashboard.run = lambda app: (apps.append(app), run(app, headless=True, size=(120, 40)))
root = Path({str(tmp_path)!r})
face.open_dashboard(Options(plan=root / "experiments.toml"), RunsFolder(root, root))
modules, text = seen[0]
assert all(word in text for word in ("Reading the runs", "trade-off", "loss", "Quit")), text
for name in set(sys.modules) - modules:
    del sys.modules[name]
"""
    found = in_memory(script)
    assert "textual.app" in found
    without((*HEAVY, *LATE, "core.runs.store", "core.queue.execution", "lora_tui.headless"), found)


TRACKERS = ("tensorboardX", "wandb", "mlflow", "trackio")


def test_nothing_but_the_process_of_a_sink_knows_trackers() -> None:
    rooms = [m for room in ("core.plan", "core.runs", "core.queue") for m in modules_of(room)]
    without((*TRACKERS, "core.sinks"), imported(*rooms, "lora_tui.__main__"))
    without((*TRACKERS, *HEAVY), imported("core.sinks.__main__"))


def test_starting_a_trainer_does_not_import_models_before_its_arguments_are_good() -> None:
    without(HEAVY, imported("core.training.__main__"))


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("core.cli", ["transcribe", "evaluate", "manifest", "errors", "normalise", "doctor", "completion"]),
        ("lora_tui", list(COMMANDS)),
    ],
)
def test_help_is_given_without_models_and_without_textual(command: str, names: list[str]) -> None:
    script = f"""
from {command}.__main__ import main
for words in {[[], *([name] for name in names)]!r}:
    try:
        code = main([*words, "--help"])
    except SystemExit as stop:
        code = stop.code
    assert not code, (words, code)
"""
    without((*HEAVY, "textual", "core.training"), in_memory(script))


@pytest.mark.parametrize("room", ["core.plan", "core.scoring", "core.runs.events"])
def test_pure_rooms_open_nothing(room: str) -> None:
    """No file, process or socket is touched by importing them, beyond Python's own reading of modules."""
    names = modules_of(room) if hasattr(__import__(room, fromlist=["x"]), "__path__") else [room]
    script = "\n".join(f"import {name}" for name in names)
    inputs = ("core.system.files", *SOUND_ROOMS, "core.queue", "sqlite3", "soundfile")
    without(inputs, in_memory(script))


def test_every_module_is_looked_at() -> None:
    """The packages are walked, not listed: a new room cannot be forgotten."""
    rooms = {m.name for m in pkgutil.iter_modules(core.__path__) if m.ispkg}
    engine = {
        "system",
        "plan",
        "scoring",
        "audio",
        "manifests",
        "audit",
        "corpus",
        "runs",
        "queue",
        "sinks",
        "training",
        "export",
    }
    assert rooms == engine | {"cli"}
    assert lora_tui.__path__
