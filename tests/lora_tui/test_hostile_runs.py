"""Whatever lies in a run folder, no command crashes, hangs, or accepts what it cannot read."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder
from privileges import as_its_owner_only

from core.errors import RunFolderError
from core.queue.__main__ import supervise
from core.runs.paths import RunPaths
from core.runs.store import read_run
from lora_tui.__main__ import main
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.snapshots import Want
from lora_tui.dashboard.text import run_pages as run_text
from lora_tui.dashboard.text import verdict_lines as verdict_text

HUGE = "a number of 400 digits"
VALUES = (None, True, "x", [], {}, -1, 2.5, HUGE, 1e308, 2**60, {"a": {}}, [[1]], "\ud800")
GONE = object()
LONGEST_S = 30


class Scene:
    """One finished run that the gate accepts, and every command that reads it."""

    def __init__(self, folder: PlanFolder) -> None:
        folder.write()
        folder.script(a=["good"])
        folder.db.submit(folder.submission())
        assert supervise(folder.runs, folder.executor) == 0
        self.folder, self.run = folder, folder.run("a")
        where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
        plan, out = str(folder.plan), folder.root / "out"
        exports = [word for kind in ("html", "xml", "csv", "md") for word in ("--export", f"{out}.{kind}")]
        self.commands: dict[str, Callable[[], int]] = {
            "status": lambda: main(["status", plan, *where]),
            "status --json": lambda: main(["status", plan, "--json", *where]),
            "verify": lambda: main(["verify", str(self.run.root)]),
            "gate": lambda: main(["--headless", plan, "--gate", "--no-train", "--json", *where, *exports]),
            "export card": lambda: main(["export", "card", str(self.run.root), "-o", str(out)]),
            "dashboard": self._board,
        }
        codes = {name: command() for name, command in self.commands.items()}
        # verify hears the real audio, which a FakeTrainer did not
        assert codes.pop("verify") in (0, 1) and set(codes.values()) == {0}

    def _board(self) -> int:
        source = FolderSource(self.folder.runs, None, caches=False)
        for _ in range(3):
            board = source.read(Want(f"run:{self.run.name}"))
        if board.selected is not None:  # there is no run where run.json is no file
            run_text.interval_lines(board.selected, 80)
            run_text.settings_lines(board.selected)
            verdict_text.health_pieces(board.selected)
        return 0

    def codes(self, *names: str) -> dict[str, int]:
        """Of the commands (by default all but verify, which is slow), with a limit that no sound one comes near."""
        wanted = names or [name for name in self.commands if name != "verify"]
        found = {}
        for name in wanted:
            with hanging_fails():
                found[name] = self.commands[name]()
        return found


class Hung(BaseException):
    pass


@contextlib.contextmanager
def hanging_fails() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hung

    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


@pytest.fixture(scope="module")
def scene(shared_folder: PlanFolder) -> Any:
    return Scene(shared_folder)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*at, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*at, 0))


def changed(document: Any, at: tuple[Any, ...], value: Any) -> str:
    """The document with another value, or none, at one place."""
    if not at:
        return text_of(value)
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return text_of(copy)


def text_of(value: Any) -> str:
    return json.dumps(value).replace(json.dumps(HUGE), "1" + "0" * 400)


@contextlib.contextmanager
def kept(path: Path) -> Iterator[bytes]:
    """The file is as it was afterwards."""
    before = path.read_bytes()
    try:
        yield before
    finally:
        if path.is_symlink() or not path.is_file():
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        path.write_bytes(before)


def assert_sound(codes: dict[str, int], what: object) -> None:
    assert not [name for name, code in codes.items() if code == 3], f"internal error for {what}"


@pytest.mark.parametrize("name", ["config", "result"])
def test_a_field_of_another_type_is_named_and_never_a_crash(scene: Scene, name: str) -> None:
    """Each field with everything where that is quick, every third one through two commands."""
    path: Path = getattr(scene.run, name)
    with kept(path) as before:
        document = json.loads(before)
        for number, at in enumerate(places(document)):
            for value in (*VALUES, *([GONE] if at else [])):
                path.write_text(changed(document, at, value))
                with hanging_fails():
                    read_run(scene.run)
            if number % 3:
                continue
            path.write_text(changed(document, at, VALUES[number // 3 % len(VALUES)]))
            assert_sound(scene.codes("status --json", "dashboard"), (name, at))


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("config", ("provenance", "dirty"), {}),
        ("config", ("settings", "train", "steps"), "many"),
        ("config", ("settings", "train", "steps"), HUGE),
        ("config", ("settings", "adapter", "target_modules"), {}),
        ("config", ("gate", "confidence"), "very"),
        ("config", ("gate", "slice"), [1]),
        ("config", ("gate", "slice"), [{"min_utterances": 2}]),
        ("config", ("hashes", "domain"), 5),
        ("config", ("experiment",), []),
        ("config", (), []),
        ("result", ("seconds",), HUGE),
        ("result", ("seconds",), 1e308),
        ("result", ("best_step",), "x"),
        ("result", ("adapter_hash",), {}),
        ("result", (), None),
    ],
)
def test_a_broken_document_leaves_no_verdict_and_says_why(
    scene: Scene, capsys: pytest.CaptureFixture[str], name: str, at: tuple[str, ...], value: object
) -> None:
    path: Path = getattr(scene.run, name)
    with kept(path) as before:
        path.write_text(changed(json.loads(before), at, value))
        capsys.readouterr()
        codes = scene.codes()
        codes |= scene.codes("verify") if at in (("provenance", "dirty"), ("seconds",), ()) else {}
    assert_sound(codes, (at, value))
    assert codes["gate"] != 0 and codes.get("verify") != 0
    assert path.name in capsys.readouterr().err


def test_events_with_fields_of_other_types(scene: Scene) -> None:
    with kept(scene.run.events) as before:
        lines = before.decode().splitlines()
        kinds = {json.loads(line)["event"]: number for number, line in enumerate(lines)}
        assert len(kinds) >= 6
        for number in kinds.values():
            document = json.loads(lines[number])
            for at in places(document):
                for value in (*VALUES, *([GONE] if at else [])):
                    text = "\n".join([*lines[:number], changed(document, at, value), *lines[number + 1 :]])
                    scene.run.events.write_text(f"{text}\n")
                    with hanging_fails():
                        read_run(scene.run)
        for number in (*kinds.values(), 0):
            document = json.loads(lines[number])
            for key, value in (("time", 1e300), ("step", HUGE), ("seconds", 1e308), ("sets", {"domain": {}})):
                if key in document:
                    lines[number] = changed(document, (key,), value)
        scene.run.events.write_text("\n".join(lines) + "\n")
        codes = scene.codes()
        assert_sound(codes, "many odd events")
        assert codes["gate"] != 0


def strange(path: Path, kind: str) -> None:
    """Put something in the place of a file that no trainer puts there."""
    path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path.name)
        case "folder":
            path.mkdir()
        case "holes":
            with path.open("wb") as file:
                file.truncate(1 << 41)
        case "empty":
            path.touch()
        case "deep":
            path.write_text("[" * 100_000)
        case "no lines":
            path.write_bytes(b"x" * (20 << 20))


@pytest.mark.parametrize("kind", ["fifo", "device", "loop", "folder", "holes", "empty", "deep"])
@pytest.mark.parametrize("name", ["config", "result", "data_health"])
def test_what_is_no_document_is_not_waited_for(scene: Scene, name: str, kind: str) -> None:
    path: Path = getattr(scene.run, name)
    with kept(path):
        strange(path, kind)
        codes = scene.codes("status", "gate", "dashboard", *(["verify"] if kind == "fifo" else []))
    assert_sound(codes, (name, kind))
    assert codes["gate"] != 0


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "empty", "no lines"])
@pytest.mark.parametrize("name", ["events", "log"])
def test_nor_is_what_is_no_stream(scene: Scene, name: str, kind: str) -> None:
    path: Path = getattr(scene.run, name)
    with kept(path):
        strange(path, kind)
        codes = scene.codes()
    assert_sound(codes, (name, kind))
    assert name == "log" or codes["gate"] != 0


@pytest.mark.parametrize("kind", ["fifo", "device", "loop", "empty"])
def test_scores_and_adapters_too(scene: Scene, kind: str) -> None:
    paths: RunPaths = scene.run
    step = json.loads(paths.result.read_text())["best_step"]
    for path in (paths.tuned("domain"), paths.evaluation(0, "heldout"), paths.adapter(step) / "adapter_config.json"):
        with kept(path):
            strange(path, kind)
            codes = scene.codes("status", "gate", "dashboard", *(["verify"] if kind == "fifo" else []))
        assert_sound(codes, (path, kind))
        assert codes["gate"] != 0


def test_weights_that_no_adapter_has_are_not_hashed_for_minutes(scene: Scene) -> None:
    step = json.loads(scene.run.result.read_text())["best_step"]
    path = scene.run.adapter(step) / "adapter_model.safetensors"
    with kept(path):
        strange(path, "holes")
        codes = scene.codes("status", "gate", "dashboard")
    assert_sound(codes, "an adapter of 2 TiB")
    assert codes["gate"] != 0


@pytest.mark.parametrize("place", ["train.jsonl", "train.wav", "model/config.json", "model/model.safetensors"])
@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_manifest_an_audio_file_or_a_model_that_is_none(scene: Scene, place: str, kind: str) -> None:
    path = scene.folder.root / place
    with kept(path):
        strange(path, kind)
        assert_sound(scene.codes("status", "gate"), (place, kind))
        with hanging_fails():
            assert main(["plan", str(scene.folder.plan)]) == 4


def test_a_plan_that_never_ends(tmp_path: Path) -> None:
    with hanging_fails():
        assert main(["plan", "/dev/zero"]) == 4
        os.mkfifo(tmp_path / "plan.toml")
        assert main(["plan", str(tmp_path / "plan.toml")]) == 4


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_a_queue_without_readable_decisions_says_so(
    scene: Scene, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = scene.folder.runs
    with kept(runs.decisions):
        strange(runs.decisions, kind)
        with hanging_fails():
            code = main(["queue", "list", "--runs", str(runs.root), "--state", str(runs.state)])
    assert code == 4 and "decisions.jsonl" in capsys.readouterr().err


def _parts(run: RunPaths) -> list[Path]:
    return [run.root, *sorted(path for path in run.root.rglob("*") if not path.is_symlink())]


@contextlib.contextmanager
def _without_permission(path: Path, mode: int = 0) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        with as_its_owner_only():
            yield
    finally:
        path.chmod(before)


def test_what_may_not_be_read_is_named_and_never_accepted(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    evidence = {scene.run.root, scene.run.config, scene.run.events, scene.run.result, scene.run.adapters}
    for part in _parts(scene.run):
        capfd.readouterr()
        with _without_permission(part):
            codes = scene.codes(*scene.commands) if part in evidence else scene.codes("status", "gate", "dashboard")
        said = "".join(capfd.readouterr())
        assert 3 not in codes.values(), f"{part.name}: {codes}\n{said}"
        assert "internal error" not in said and "--runs" not in said.replace("--runs DIR", ""), f"{part.name}: {said}"
        if part in evidence:
            assert codes["gate"] in (1, 6) and codes["verify"] in (1, 4, 6), f"{part.name}: {codes}"


@pytest.mark.parametrize("mode", [0, 0o444])
def test_a_runs_folder_that_may_not_be_read_is_one_sentence(
    scene: Scene, mode: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with _without_permission(scene.folder.runs.root, mode):
        codes = scene.codes("status", "status --json", "gate", "verify")
        said = capfd.readouterr().err
        if mode == 0:
            assert codes.pop("verify") == 1, "it names the run's files, which it cannot read"
            assert set(codes.values()) == {4}, codes
            assert f"{scene.folder.runs.root}: cannot be read (Permission denied)" in said
        assert 3 not in codes.values() and codes["gate"] != 0, codes
        assert "internal error" not in said
        with pytest.raises((RunFolderError, PermissionError)):  # which the board shows until it can be read again
            scene.codes("dashboard")
