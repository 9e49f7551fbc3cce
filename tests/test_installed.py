"""What a wheel installs works in an empty folder: both commands, the demo, a short training and its verdict."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from terminal import Terminal

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).parents[1]
DEADLINE_S = 600
MOST_BYTES = 10_000_000
"""Of the wheel: the base model is 7.5 MB of it, and no audio belongs in it."""
SMALL = [f"--set=train.{key}" for key in ("steps=4", "eval_every=2", "batch_seconds=20", "threads=1")]


@dataclass(frozen=True)
class Installed:
    """An environment of its own into which the wheel was installed, with the libraries of this one."""

    wheel: Path
    sdist: Path
    home: Path

    def run(self, folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command, *arguments = words
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LORA_TUI_STATE")}
        kept["XDG_STATE_HOME"] = str(self.home / "state")
        return subprocess.run(
            [self.home / "bin" / command, *arguments], cwd=folder, env=kept | more, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=DEADLINE_S, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The sdist of what is tracked, the wheel made of the sdist, and its fresh environment."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git repository to build from")
    pytest.importorskip("setuptools")
    source, built, home = (tmp_path_factory.mktemp(name) for name in ("source", "built", "own environment"))
    tracked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(tracked, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    make = f"import setuptools.build_meta as backend; backend.build_sdist({str(built)!r})"
    subprocess.run([sys.executable, "-c", make], cwd=source, capture_output=True, check=True)
    [sdist] = built.glob("*.tar.gz")
    offline = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip"]
    subprocess.run(
        [*pip, "wheel", *offline, "--no-build-isolation", "-w", built, sdist], capture_output=True, check=True
    )
    [wheel] = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    [packages] = home.glob("lib/python*/site-packages")
    # After its own packages; the editable install in there is no part of it, since its .pth file is not read again.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([*pip, "--python", home / "bin" / "python", "install", *offline, wheel], check=True)
    return Installed(wheel, sdist, home)


def test_the_wheel_holds_both_packages_and_the_demo_and_nothing_else(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    modules = {str(path.relative_to(ROOT)) for room in ("core", "lora_tui") for path in (ROOT / room).rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}
    assert installed.wheel.stat().st_size < MOST_BYTES
    assert not [name for name in names if name.endswith((".flac", ".wav", ".jsonl"))]
    with tarfile.open(installed.sdist) as archive:
        assert any(name.endswith("/data/recipe.toml") for name in archive.getnames())


def test_both_commands_name_the_release(installed: Installed, tmp_path: Path) -> None:
    release = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert release is not None
    for command in ("lora-tui", "lora-cli"):
        done = installed.run(tmp_path, command, "--version")
        assert (done.stdout, done.returncode) == (f"{command} {release[1]}\n", 0)


def test_modules_in_the_working_folder_are_not_imported(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    for name in ("core/__init__.py", "torch.py", "random.py", "argparse.py"):
        (tmp_path / name).write_text("raise SystemExit('this is the working folder')\n")
    for command in ("lora-tui", "lora-cli"):
        assert installed.run(tmp_path, command, "--help").returncode == 0
    for module in ("core.training", "core.cli", "core.queue", "core.sinks"):
        assert "working folder" not in installed.run(tmp_path, "python", "-P", "-m", module).stderr


@pytest.mark.parametrize("command", ["lora-tui", "lora-cli"])
def test_another_package_core_is_named(installed: Installed, tmp_path: Path, command: str) -> None:
    (tmp_path / "project" / "core").mkdir(parents=True)
    (tmp_path / "project" / "core" / "__init__.py").touch()
    done = installed.run(tmp_path, command, "--help", PYTHONPATH=str(tmp_path / "project"))
    assert done.returncode == 4 and str(tmp_path / "project" / "core") in done.stderr and "pipx" in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_a_package_that_overwrites_core_is_named(installed: Installed, tmp_path: Path) -> None:
    packages = tmp_path / "site"
    shutil.copytree(next(installed.home.glob("lib/python*/site-packages")), packages)
    (packages / "core" / "__init__.py").write_text("import nothing_of_this_name\n")
    (packages / "odoo_core-9.dist-info").mkdir()
    (packages / "odoo_core-9.dist-info" / "METADATA").write_text("Name: odoo-core\nVersion: 9\n")
    (packages / "odoo_core-9.dist-info" / "RECORD").write_text("core/__init__.py,,\n")
    done = installed.run(tmp_path, "python", "-P", "-m", "lora_tui", "--help", PYTHONPATH=str(packages))
    assert done.returncode == 4 and "was overwritten by odoo-core" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_is_written_trained_and_judged_in_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    recipe = installed.home / "share" / "lora-tui" / "data" / "recipe.toml"
    recipe.write_text(re.sub(r"^count = .*", "count = 24", recipe.read_text(), flags=re.MULTILINE))
    (tmp_path / "random.py").write_text("raise SystemExit('this is the working folder')\n")
    first = installed.run(tmp_path, "lora-tui", "demo")
    assert (first.returncode, first.stdout) == (0, "")
    assert "cd lora-tui-demo && lora-tui --start" in first.stderr
    again = installed.run(tmp_path, "lora-tui", "demo")
    assert again.returncode == 0 and "clips are made" in first.stderr and "clips are made" not in again.stderr
    demo = tmp_path / "lora-tui-demo"
    (demo / "torch.py").write_text("raise SystemExit('this is the working folder')\n")
    (demo / "core").mkdir()
    (demo / "core" / "__init__.py").write_text("raise SystemExit('this is the working folder')\n")
    manifests = [f"--{name}=data/{name}_manifest.jsonl" for name in ("train", "domain", "heldout")]
    plan = installed.run(demo, "lora-tui", "init", "--yes", "--model=data/base_model", *manifests, "--output=own.toml")
    assert plan.returncode == 0, plan.stderr
    assert installed.run(demo, "lora-tui", "plan", "own.toml").returncode == 0
    looked = installed.run(demo, "lora-cli", "doctor", "own.toml")
    assert "ok       libraries" in looked.stdout and "plan: own.toml:" in looked.stdout, looked.stdout
    assert "problem  plan" not in looked.stdout, looked.stdout
    command = ["lora-tui", "--headless", "--gate", "--only", "2.1", *SMALL, "--export", "matrix.json"]
    done = installed.run(demo, *command, OMP_NUM_THREADS="1")
    assert done.returncode in (1, 6), done.stderr  # 4 steps of a recipe for 1000 are no adapter to accept
    [run] = (demo / "runs").glob("2.1*")
    assert (run / "result.json").is_file() and (demo / "matrix.json").is_file()
    assert installed.run(demo, "lora-tui", "verify", str(run)).returncode in (1, 6)
    where = {"PYTHONPATH": "", "XDG_STATE_HOME": str(installed.home / "state")}
    board = Terminal(["-P", "-m", "lora_tui"], cwd=demo, env=where, python=installed.home / "bin" / "python")
    board.wait_for(b"2.1-lora")
    board.type(b"q")
    assert board.end() == 0
    clip = next((demo / "data" / "audio" / "domain").glob("*.flac"))
    heard = installed.run(demo, "lora-cli", "transcribe", str(clip), "--adapter", str(run / "lora_adapter_best"))
    assert heard.returncode == 0, heard.stderr
