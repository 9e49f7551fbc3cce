"""`lora-cli doctor`: each thing that runs depend on, on machines that lack it."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from plan_kit import twelve_steps

from core.cli import doctor_checks as checks
from core.cli import doctor_command
from core.cli.__main__ import main
from core.cli.doctor_checks import TESTED, Finding, Forecast, State, Torch
from core.queue.gpu.choice import Devices, Gpu
from core.runs.paths import RunsFolder

ROOT = Path(__file__).parents[3]
CPU = Torch("2.13.0+cpu", None, False)
CUDA = Torch("2.13.0", "12.9", True)
GB = 1_000_000_000
H200 = Gpu("GPU-1", "GPU 0", 0, "NVIDIA H200", total=150 * GB, free=140 * GB)
NO_GPU = Devices(note="PyTorch 2.13.0+cpu is a build for the CPU", only_cpu=True)
LINE = re.compile(r"(ok|warning|problem) +[\w ().-]+: .+")


def state_of(findings: Any) -> list[State]:
    return [finding.state for finding in findings]


def test_each_finding_is_a_line_and_the_exit_code_tells_of_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(["doctor"])
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    names = {line.split(":")[0].split(None, 1)[1] for line in lines}
    assert {
        "lora-tui",
        "torch",
        "libraries",
        "GPU",
        "audio",
        "disk",
        "disk speed",
        "locks",
        "session",
        "terminal",
    } <= names
    assert all("→" in line for line in lines if line.startswith("warning"))
    assert code == (4 if any(line.startswith("problem") for line in lines) else 0)
    assert re.fullmatch(r"\d+ ok, \d+ warnings?, \d+ problems?\n", said.err)
    assert list(tmp_path.iterdir()) == []


def test_json_has_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(["doctor", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert set(said) == {"schema", "checks", "problems", "warnings"} and said["schema"] == 1
    assert all(set(check) == {"name", "state", "what", "do"} for check in said["checks"])
    assert code == (4 if said["problems"] else 0)


def test_what_is_wrong_with_the_plan_is_among_it(
    tmp_path: Path, digits: Path, base_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = twelve_steps(base_model, speech=f"{digits}/").replace('.jsonl"', '_manifest.jsonl"')
    Path("plan.toml").write_text(text)
    main(["doctor", "plan.toml", "--json"])
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert found["plan"]["state"] == "ok" and "1 row can be run" in found["plan"]["what"]
    assert "the largest row of the plan takes about" in next(c["what"] for n, c in found.items() if "memory" in n)
    assert "the plan takes about" in found["disk"]["what"]
    Path("plan.toml").write_text(text.replace("steps = 12", "steps = -1"))
    assert main(["doctor", "plan.toml"]) == 4
    assert "problem  plan: plan.toml:8: train.steps: -1 is too small" in capsys.readouterr().out


def test_a_plan_that_is_not_there_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path / "none.toml"), "--runs", str(tmp_path / "runs")]) == 4
    assert "none.toml: no such plan" in capsys.readouterr().out


def test_a_state_folder_that_others_may_write_to_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    assert main(["doctor", "--runs", str(tmp_path / "runs"), "--state", str(tmp_path / "state")]) == 4
    assert "problem  state folder: " in capsys.readouterr().out


def test_what_cannot_be_looked_at_is_a_problem_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Torch:
        raise OSError("libcudart.so.12: cannot open shared object file\x1b[2J")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checks, "torch_here", broken)
    assert main(["doctor"]) == 4
    out = capsys.readouterr().out
    assert "problem  GPU: cannot be looked at: OSError: libcudart" in out and "session: " in out and "\x1b" not in out


def test_the_versions_that_were_tested_are_those_of_the_constraints() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    assert {name: ".".join(pins[name].split(".")[:2]) for name in TESTED} == TESTED


@pytest.mark.parametrize(
    "version, state, what",
    [
        ("2.13.0+cpu", State.OK, "2.13.0+cpu"),
        ("2.99.0", State.WARNING, "newer than 2.13"),
        ("2.0.1", State.PROBLEM, "torch 2.0.1 does not do: needed is >=2.6"),
        (None, State.PROBLEM, "torch is missing"),
    ],
)
def test_libraries_are_compared_with_what_is_needed_and_tested(version: str | None, state: State, what: str) -> None:
    found = list(checks.judged_versions({"torch": SpecifierSet(">=2.6")}, {"torch": version}))
    worst = next((one for one in found if one.state is not State.OK), found[0])
    assert (worst.state, what in worst.what) == (state, True)


@pytest.mark.parametrize(
    "devices, torch, device_file, state, what",
    [
        (NO_GPU, CPU, False, State.OK, "trainers run on the CPU"),
        (NO_GPU, CPU, True, State.PROBLEM, "though there is an NVIDIA GPU"),
        (Devices(gpus=(H200,)), CUDA, True, State.OK, "driver 570.1, PyTorch 2.13.0, for CUDA 12.9"),
        (
            Devices(gpus=(H200,)),
            Torch("2.13.0", "13.0", False),
            True,
            State.PROBLEM,
            "finds no GPU, though driver 570.1",
        ),
        (Devices(unusable="no GPU answers any more"), CUDA, True, State.PROBLEM, "no GPU answers any more"),
        (Devices(note="NVML does not answer (x)"), CUDA, True, State.WARNING, "NVML does not answer"),
    ],
)
def test_gpu_driver_and_build_of_pytorch(
    devices: Devices, torch: Torch, device_file: bool, state: State, what: str
) -> None:
    first, *_ = checks.judged_devices(devices, torch, "570.1", has_device_file=device_file)
    assert first.state is state and what in first.what and bool(first.do) == (state is not State.OK)


def test_each_gpu_is_a_line() -> None:
    lost = Gpu("GPU-2", "GPU 1", 1, "NVIDIA H200", trouble="GPU is lost")
    _, second, first = checks.judged_devices(
        Devices(gpus=(H200,), troubled=(lost,)), CUDA, "570.1", has_device_file=True
    )
    assert (first.name, first.what) == ("GPU 0", "NVIDIA H200, 140.0 GB free")
    assert (second.name, second.state) == ("GPU 1", State.PROBLEM)


@pytest.mark.parametrize(
    "needed, state", [(None, State.OK), (5 * GB, State.OK), (12 * GB, State.WARNING), (40 * GB, State.PROBLEM)]
)
def test_memory_against_the_forecast(needed: int | None, state: State) -> None:
    assert checks.judged_memory(NO_GPU, 10 * GB, 16 * GB, needed).state is state


def test_memory_is_that_of_the_container_where_it_has_a_limit(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("400000\n")
    assert checks.machine_memory(tmp_path) == (600_000, 1_000_000)
    (group / "memory.max").write_text("max\n")
    assert checks.machine_memory(tmp_path)[1] > GB


def test_memory_is_that_of_the_gpu_where_there_is_one() -> None:
    found = checks.judged_memory(Devices(gpus=(H200,)), 10 * GB, 16 * GB, 40 * GB)
    assert found.state is State.OK and "140.0 GB of 150.0 GB" in found.what


@pytest.mark.parametrize(
    "free, needed, really, state",
    [
        (90 * GB, None, True, State.OK),
        (90 * GB, GB, True, State.OK),
        (GB, 2 * GB, True, State.WARNING),
        (90 * GB, GB, False, State.PROBLEM),
    ],
)
def test_space_and_quota(free: int, needed: int | None, really: bool, state: State) -> None:
    assert checks.judged_space(Path("/runs"), free, needed, really=really).state is state
    assert state_of([checks.judged_speed(Path("/"), 5.0), checks.judged_speed(Path("/"), 500.0)]) == [
        State.WARNING,
        State.OK,
    ]


@pytest.mark.parametrize("below", ["", "runs"])
def test_a_file_in_place_of_a_folder_is_a_problem(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        runs = RunsFolder(tmp_path / name / below, tmp_path / name / below)
        wrong = f"{tmp_path / name}: not a folder"
        [found] = checks.disk(runs, None)
        assert (found.state, found.what) == (State.PROBLEM, wrong)
        found = checks.locks(runs)
        assert (found.state, found.what) == (State.PROBLEM, wrong)


def test_locks_hold_on_a_disk_and_where_they_do_not_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = RunsFolder(tmp_path / "runs", tmp_path / "new" / "state")
    assert checks.locks(runs) == Finding("locks", State.OK, f"kernel locks hold in {tmp_path}")
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as here:
        here.setattr(checks, "is_held", lambda path: False)
        assert checks.locks(runs).state is State.PROBLEM

    def without(path: Path) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(checks.KernelLock, "acquire", without)
    found = checks.locks(runs)
    assert found.state is State.PROBLEM and "No locks available" in found.what


def systemd(root: Path, files: Mapping[str, str], cgroup: str = "0::/user.slice/user-7.slice/session-3.scope") -> Path:
    for name, text in {"run/systemd/system/x": "", "proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


KILLS = "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=\n"


@pytest.mark.parametrize(
    "files, cgroup, state",
    [
        ({}, "session-3.scope", State.OK),
        ({"etc/systemd/logind.conf": "#KillUserProcesses=yes\n"}, "session-3.scope", State.OK),
        ({"etc/systemd/logind.conf": KILLS}, "session-3.scope", State.WARNING),
        ({"etc/systemd/logind.conf": KILLS}, "/system.slice/x.service", State.OK),
        (
            {
                "etc/systemd/logind.conf": KILLS,
                "usr/lib/systemd/logind.conf.d/50.conf": "[Login]\nKillUserProcesses=yes\n",
                "etc/systemd/logind.conf.d/50.conf": "[Login]\nKillUserProcesses=no\n",
            },
            "session-3.scope",
            State.OK,
        ),
        ({}, "user@7.service/app.slice/x", State.WARNING),
    ],
)
def test_a_session_that_ends_what_it_started_is_named(
    tmp_path: Path, files: dict[str, str], cgroup: str, state: State
) -> None:
    found = checks.session(systemd(tmp_path, files, cgroup), {})
    assert found.state is state
    assert ("linger" in found.do) == (state is State.WARNING)


def test_a_job_of_a_scheduler_ends_with_it(tmp_path: Path) -> None:
    assert "Slurm" in checks.session(tmp_path, {"SLURM_JOB_ID": "7"}).what
    assert checks.session(tmp_path, {}).state is State.OK


@pytest.mark.parametrize(
    "texts, user, killed",
    [
        (["KillUserProcesses=yes"], "me", True),
        (["KillUserProcesses=yes"], "root", False),
        (["KillUserProcesses=yes\nKillOnlyUsers=you"], "me", False),
        (["KillUserProcesses=yes", "KillUserProcesses=0"], "me", False),
        ([], "me", False),
    ],
)
def test_what_logind_comes_to(texts: list[str], user: str, killed: bool) -> None:
    assert checks.kills_user_processes(texts, user) is killed


@pytest.mark.parametrize(
    "size, environ, state",
    [
        ((120, 40), {"TERM": "xterm-256color", "LANG": "C.UTF-8"}, State.OK),
        ((60, 20), {"TERM": "xterm-256color", "LANG": "C.UTF-8"}, State.WARNING),
        ((120, 40), {"TERM": "xterm", "LANG": "C"}, State.WARNING),
        ((120, 40), {"TERM": "dumb"}, State.PROBLEM),
    ],
)
def test_the_terminal(size: tuple[int, int], environ: dict[str, str], state: State) -> None:
    assert checks.judged_terminal(size, environ).state is state


def test_signs_of_other_widths_are_named() -> None:
    assert checks.judged_widths({"⠿": 1, "語": 2}).state is State.OK
    assert checks.judged_widths({"⠿": 2, "語": 2}).state is State.WARNING
    assert checks.judged_widths({"⠿": None}).state is State.OK


def test_a_terminal_is_asked_how_far_its_cursor_went(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()

    def answer() -> None:
        seen = b""
        while b"\x1b[6n" not in seen:
            seen += os.read(master, 99)
        os.write(master, b"\x1b[7;3R")

    thread = threading.Thread(target=answer)
    thread.start()
    with (
        open(slave, encoding="utf-8", closefd=False) as stdin,
        open(slave, "w", encoding="utf-8", closefd=False) as out,
    ):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", out)
        assert checks._cells_of("語") == 2
    thread.join()
    os.close(master)
    os.close(slave)


def test_the_plan_is_read_by_the_command_that_shows_it() -> None:
    document = {"plan": "p.toml", "problems": [f"p.toml:{n}: wrong" for n in range(9)], "warnings": [], "rows": []}
    found = checks.plan_findings(document)
    assert len(found) == checks.PLAN_LINES + 1 and "4 more problems" in found[-1].what
    rows = [{"memory": {"total": 5}, "disk": 3}, {"memory": None, "disk": None}, {"memory": {"total": 9}, "disk": 4}]
    assert checks.forecast_of({"rows": rows}) == Forecast(9, 7)
    assert doctor_command.PLAN_COMMAND[1] == "-P"
