"""What `lora-cli doctor` does: runs the checks, one line each, and says by its exit code whether something is wrong."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.cli import doctor_checks as checks
from core.cli.doctor_checks import Finding, Forecast, State, problem
from core.console import document, err, out
from core.errors import ExitCode, UserError
from core.queue.executor import child_environment
from core.queue.gpu.nvml import NvmlReader, driver_version
from core.runs.state_folder import runs_folder
from core.sanitise import sanitise

PLAN_COMMAND = (sys.executable, "-P", "-m", "lora_tui", "plan", "--json")
"""All that can be told of a plan before it runs. The command of a face, so in a process of its own."""


def doctor(args: argparse.Namespace) -> ExitCode:
    """Print the findings; 4 if one of them is a problem."""
    findings = []
    for finding in _findings(args):
        findings.append(finding)
        if not args.json:
            out(_line(finding))
    counts = {state: sum(finding.state is state for finding in findings) for state in State}
    if args.json:
        document(
            {
                "schema": 1,
                "checks": [asdict(finding) for finding in findings],
                "problems": counts[State.PROBLEM],
                "warnings": counts[State.WARNING],
            },
            indent=1,
        )
    else:
        err(
            ", ".join(
                f"{count} {state}{'' if count == 1 or state is State.OK else 's'}" for state, count in counts.items()
            )
        )
    return ExitCode.BAD_USAGE if counts[State.PROBLEM] else ExitCode.ACCEPTED


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    plan = None if args.plan is None else _plan(args)
    forecast = Forecast() if plan is None else checks.forecast_of(plan)
    yield from _of("versions", checks.versions)
    yield from _of("GPU", lambda: _devices(forecast))
    yield from _of("audio", lambda: [checks.sound_formats()])
    try:
        runs = runs_folder(Path(args.runs), None if args.state is None else Path(args.state))
    except (UserError, OSError) as error:
        yield problem("state folder", str(error), "name another one with --state")
    else:
        yield from _of("disk", lambda: checks.disk(runs, forecast.disk))
        yield from _of("locks", lambda: [checks.locks(runs)])
    yield from _of("session", lambda: [checks.session()])
    yield from _of("terminal", lambda: checks.terminal(ask=not args.json))
    if plan is not None:
        yield from checks.plan_findings(plan)


def _of(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check; one that fails is a finding, too."""
    try:
        yield from check()
    except Exception as error:  # a machine where something cannot be looked at is what this command is for
        what = f"cannot be looked at: {type(error).__name__}: {error}"
        yield problem(name, what, "what depends on it may fail in the same way")


def _devices(forecast: Forecast) -> Iterator[Finding]:
    devices = NvmlReader().read()
    torch = checks.torch_here()
    yield from checks.judged_devices(devices, torch, driver_version(), has_device_file=checks.has_nvidia_file())
    yield checks.judged_memory(devices, *checks.machine_memory(), forecast.memory)


def _plan(args: argparse.Namespace) -> Mapping[str, Any]:
    """The document of `lora-tui plan --json`; one that holds a problem where that command failed."""
    command = [*PLAN_COMMAND, str(args.plan), "--runs", str(args.runs)]
    command += [] if args.state is None else ["--state", str(args.state)]
    # On a terminal it shows itself how far it is: reading the audio for the first time takes a while.
    talk = None if sys.stderr.isatty() else subprocess.PIPE
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=talk, env=child_environment({}), check=False
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    said = (done.stderr or b"").decode(errors="replace").strip().splitlines()[-1:] or [
        f"`lora-tui plan` ended with exit code {done.returncode}"
    ]
    return {"plan": str(args.plan), "problems": said}


def _line(finding: Finding) -> str:
    what = sanitise(finding.what) + (f" → {sanitise(finding.do)}" if finding.do else "")
    return f"{finding.state.value:<8} {sanitise(finding.name)}: {what}"
