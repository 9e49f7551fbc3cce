"""How the pipelines of docs/ci unpack an archive of runs that somebody made to do harm."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

CI = Path(__file__).parents[2] / "docs" / "ci"


def unpacking(pipeline: str) -> str:
    """The lines that fetch the runs."""
    document = yaml.safe_load((CI / pipeline).read_text())
    if pipeline == "gitlab-ci.yml":
        [job] = document.values()
        return "\n".join(line for line in job["before_script"] if "pip" not in line and "-m venv" not in line)
    [job] = document["jobs"].values()
    return str(next(step["run"] for step in job["steps"] if step.get("name") == "Fetch the runs"))


def unpack(pipeline: str, folder: Path, archive: Path) -> int:
    checkout, temporary = folder / "checkout", folder / "temporary"
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (checkout / "experiments.toml").write_text("the gate's own\n")
    temporary.mkdir()
    variables = {"RUNNER_TEMP": str(temporary), "TMPDIR": str(temporary), "RUNS_ARCHIVE": str(archive)}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", unpacking(pipeline)]
    return subprocess.run(
        command, cwd=checkout, env=os.environ | variables, capture_output=True, check=False
    ).returncode


def member(name: str, kind: bytes = tarfile.REGTYPE, leads_to: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, leads_to
    found.size = 5 if kind == tarfile.REGTYPE else 0
    return found


RUN = member("runs/a-0123456789/run.json")
BEST = member("runs/a-0123456789/lora_adapter_best", tarfile.SYMTYPE, "adapters/step-000010")
ABOVE = member("../checkout/experiments.toml")
OVER = [RUN, member("experiments.toml"), member("lora_tui/__main__.py"), member(".venv/bin/lora-tui")]


@pytest.mark.parametrize("pipeline", ["github-actions.yml", "gitlab-ci.yml"])
@pytest.mark.parametrize(
    ("members", "taken"),
    [
        ([RUN, BEST], True),
        (OVER, True),
        ([RUN, ABOVE], False),
        ([RUN, member("runs/link", tarfile.SYMTYPE, "../../checkout"), member("runs/link/experiments.toml")], False),
        ([RUN, member("runs/link", tarfile.SYMTYPE, "/etc")], False),
        ([RUN, member("runs/link", tarfile.LNKTYPE, "../checkout/experiments.toml")], False),
        ([RUN, member("runs/a-0123456789/events.jsonl", tarfile.FIFOTYPE)], False),
        ([RUN, member("runs/a-0123456789/result.json", tarfile.CHRTYPE)], False),
    ],
    ids=["a run", "the checkout's files", "above", "through a link", "a link out", "a hard link", "a FIFO", "a device"],
)
def test_nothing_but_runs_comes_of_an_archive(
    tmp_path: Path, pipeline: str, members: list[tarfile.TarInfo], taken: bool
) -> None:
    archive = tmp_path / "runs.tar"
    with tarfile.open(archive, "w") as file:
        for item in members:
            file.addfile(item, io.BytesIO(b"evil\n") if item.isreg() else None)
    code = unpack(pipeline, tmp_path, archive)
    assert (code == 0) == taken
    checkout = tmp_path / "checkout"
    assert (checkout / "experiments.toml").read_text() == "the gate's own\n"
    assert not (checkout / "lora_tui").exists() and not (checkout / "runs").exists()
    assert [entry.name for entry in (checkout / ".venv" / "bin").iterdir()] == ["python"]
    if taken:
        assert len(list(tmp_path.glob("temporary/*/runs/a-0123456789/run.json"))) == 1


def test_an_absolute_path_stays_inside(tmp_path: Path) -> None:
    archive, outside = tmp_path / "runs.tar", tmp_path / "outside.txt"
    with tarfile.open(archive, "w") as file:
        file.addfile(member(str(outside)), io.BytesIO(b"evil\n"))
    unpack("github-actions.yml", tmp_path, archive)
    assert not outside.exists()
