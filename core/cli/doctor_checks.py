"""What `lora-cli doctor` looks at: this machine and this session, a finding for each thing that runs depend on.

Each check is a function that gives findings. What it decides is decided in a pure function, and what it looks at is
looked at once.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.queue.gpu.choice import Devices
from core.queue.pauses import LEAST_BYTES, has_space
from core.runs.paths import RunsFolder
from core.system.files import make_private, read_bytes
from core.system.locks import KernelLock, is_held
from core.terminal import is_utf8
from core.user_paths import user_name
from core.version import PACKAGE, this_version

TESTED = {"torch": "2.13", "transformers": "5.23", "peft": "0.21", "textual": "8.2", "soundfile": "0.14"}
"""The newest version of each that the tests have seen; the oldest is in pyproject.toml."""
NEEDED_FORMATS = ("WAV", "FLAC", "OGG", "MP3")
PLAN_LINES = 5
"""Problems of a plan that are shown."""
_SLOW_MB_S = 20.0
_PROBE_BYTES = 16 << 20
_SMALLEST_TERMINAL = (80, 24)
_ANSWER_S = 0.5
_GB = 1e9


class State(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    state: State
    what: str
    do: str = ""
    """What to do; empty where nothing is wrong, or where `what` says it."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the rows of a plan will take at most, bytes; None: it cannot be told, or there is no plan."""

    memory: int | None = None
    disk: int | None = None


def ok(name: str, what: str) -> Finding:
    """Nothing is wrong."""
    return Finding(name, State.OK, what)


def warning(name: str, what: str, do: str) -> Finding:
    """It works, but not as it might."""
    return Finding(name, State.WARNING, what, do)


def problem(name: str, what: str, do: str) -> Finding:
    """Something will not work."""
    return Finding(name, State.PROBLEM, what, do)


# Versions


def versions() -> Iterator[Finding]:
    """This package, Python, and the libraries against what is needed and what was tested."""
    yield ok("lora-tui", f"{this_version()}, Python {sys.version.split()[0]}")
    others = set(metadata.packages_distributions().get("core", ())) - {PACKAGE}
    if others:
        names = ", ".join(sorted(others))
        yield problem(
            "packages", f"{names} has files in a package `core`, too", "install lora-tui into an environment of its own"
        )
    yield from judged_versions(_needed(), _installed())


def judged_versions(needed: Mapping[str, Any], installed: Mapping[str, str | None]) -> Iterator[Finding]:
    """Each library that was tested by name, and one line for the rest. `needed`: name → specifier."""
    from packaging.version import Version

    unfit = []
    for name, wanted in needed.items():
        found = installed.get(name)
        if found is None or not wanted.contains(found, prereleases=True):
            has = "is missing" if found is None else f"{found} does not do"
            unfit.append(f"{name} {has}: needed is {wanted or 'any'}")
        elif name in TESTED:
            newer = Version(found).release[:2] > Version(TESTED[name]).release[:2]
            what = f"{found}, newer than {TESTED[name]}, which was tested"
            do = f"if something fails, install {name}=={TESTED[name]}.*"
            yield warning(name, what, do) if newer else ok(name, found)
    if unfit:
        yield problem("libraries", "; ".join(unfit), "install lora-tui again, into an environment of its own")
    else:
        yield ok("libraries", f"all {len(needed)} that are needed are there")


def _needed() -> dict[str, Any]:
    from packaging.requirements import Requirement

    found = [Requirement(line) for line in metadata.requires(PACKAGE) or ()]
    return {one.name: one.specifier for one in found if one.marker is None or one.marker.evaluate({"extra": ""})}


def _installed() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _needed():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


# What it computes on, and its memory


@dataclass(frozen=True, slots=True)
class Torch:
    """PyTorch as it was built, and whether it finds a GPU."""

    version: str
    cuda: str | None
    """The version of CUDA that it was built with; None: for the CPU, or for ROCm."""
    finds_gpu: bool


def torch_here() -> Torch:
    """Imports it, which takes seconds."""
    import torch

    return Torch(torch.__version__, torch.version.cuda, torch.cuda.is_available())


def judged_devices(devices: Devices, torch: Torch, driver: str | None, *, has_device_file: bool) -> Iterator[Finding]:
    """Driver and build of PyTorch, then each GPU."""
    built = f"PyTorch {torch.version}, " + (f"for CUDA {torch.cuda}" if torch.cuda else "for the CPU")
    if torch.cuda is None and has_device_file:
        yield problem(
            "GPU", f"{built}, though there is an NVIDIA GPU", "install a build of PyTorch for CUDA (pytorch.org)"
        )
        return
    if devices.unusable:
        yield problem("GPU", devices.unusable, "change CUDA_VISIBLE_DEVICES, or look with nvidia-smi")
        return
    if devices.note and not devices.only_cpu:
        yield warning("GPU", f"{devices.note}; {built}", "mend the driver, or leave it so on Jetson, WSL and ROCm")
        return
    if not (devices.gpus or devices.troubled):
        yield ok("GPU", f"none: trainers run on the CPU ({devices.note or 'no GPU answers'}); {built}")
        return
    if not torch.finds_gpu:
        yield problem(
            "GPU",
            f"{built} finds no GPU, though driver {driver or 'unknown'} has {len(devices.gpus)}",
            "bring the driver up to that CUDA, or install a build of PyTorch for an older one",
        )
        return
    yield ok("GPU", f"driver {driver or 'unknown'}, {built}")
    for gpu in devices.troubled:
        yield problem(gpu.name, f"{gpu.product} does not answer: {gpu.trouble}", "look with nvidia-smi")
    for gpu in devices.gpus:
        told = f"{gpu.product}, " + (
            "memory shared with the CPU" if gpu.free is None else f"{gpu.free / _GB:.1f} GB free"
        )
        held = ", ".join(map(str, gpu.holders[:3]))
        yield ok(gpu.name, told + (f", in use by pid {held}" if held else ""))


def machine_memory(root: Path = Path("/")) -> tuple[int, int]:
    """(free, total) bytes of this machine, or of the container that this runs in, where that has a limit."""
    import psutil

    memory = psutil.virtual_memory()
    free, total = int(memory.available), int(memory.total)
    for most, used in (
        ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        limit, taken = (_text(root / name).strip() for name in (most, used))
        if limit.isdigit() and int(limit) < total:
            total = int(limit)
            free = min(free, max(0, total - int(taken) if taken.isdigit() else total))
    return free, total


def judged_memory(devices: Devices, free: int, total: int, needed: int | None) -> Finding:
    """The memory that a trainer would have against what the largest row of the plan takes."""
    sizes = [(gpu.free, gpu.total) for gpu in devices.gpus if gpu.free is not None and gpu.total is not None]
    where = "memory"
    if sizes:
        free, total = max(sizes)
        where = "memory of the freest GPU"
    what = f"{free / _GB:.1f} GB of {total / _GB:.1f} GB free"
    if needed is None:
        return ok(where, what)
    what += f", the largest row of the plan takes about {needed / _GB:.1f} GB"
    less = "smaller batches (train.accumulation), gradient_checkpointing or base_precision take less (docs/adapters.md)"
    if needed > total:
        return problem(where, what, less)
    if needed > free:
        return warning(where, what, f"wait until others have ended, or {less}")
    return ok(where, what)


# Files


def sound_formats() -> Finding:
    """What libsndfile reads here."""
    import soundfile

    there = set(soundfile.available_formats())
    missing = [name for name in NEEDED_FORMATS if name not in there]
    what = f"libsndfile {soundfile.__libsndfile_version__} reads {len(there)} formats"
    if missing:
        return warning("audio", f"{what}, but not {', '.join(missing)}", "install libsndfile 1.1 or later")
    return ok("audio", f"{what}, {', '.join(NEEDED_FORMATS)} among them")


def disk(runs: RunsFolder, needed: int | None) -> Iterator[Finding]:
    """Space and speed where the run folders will be."""
    folder, in_the_way = _existing(runs.root)
    if in_the_way is not None:
        yield problem("disk", f"{in_the_way}: not a folder", "name another folder with --runs")
        return
    yield judged_space(folder, shutil.disk_usage(folder).free, needed, really=has_space(folder, LEAST_BYTES))
    try:
        yield judged_speed(folder, _written_per_second(folder))
    except OSError as error:
        yield problem(
            "disk speed", f"{folder}: cannot be written ({error.strerror})", "name another folder with --runs"
        )


def judged_space(folder: Path, free: int, needed: int | None, *, really: bool) -> Finding:
    """`needed`: of all rows of the plan; `really`: whether a file of LEAST_BYTES can be had, as quotas count, too."""
    what = f"{folder}: {free / _GB:.1f} GB free"
    what += "" if needed is None else f", the plan takes about {needed / _GB:.1f} GB"
    if not really:
        return problem(
            "disk", f"{what}, but not {LEAST_BYTES >> 20} MiB can be written", "free some space, or mend the quota"
        )
    if needed is not None and needed > free:
        return warning("disk", what, "free some space, or keep less: train.keep_checkpoints, a larger train.eval_every")
    return ok("disk", what)


def judged_speed(folder: Path, megabytes_per_second: float) -> Finding:
    """How fast checkpoints are written."""
    what = f"{folder}: {megabytes_per_second:.0f} MB/s written and synced"
    if megabytes_per_second < _SLOW_MB_S:
        return warning("disk speed", what, "checkpoints and audio caches wait for it: use a disk of this machine")
    return ok("disk speed", what)


def _written_per_second(folder: Path) -> float:
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=folder) as file:
        begun = time.perf_counter()
        for _ in range(_PROBE_BYTES >> 20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return _PROBE_BYTES / 1e6 / max(time.perf_counter() - begun, 1e-9)


def _existing(folder: Path) -> tuple[Path, Path | None]:
    """The folder, or the nearest above it that is there; and what stands in its way, which is no folder."""
    places = (folder, *folder.parents)
    return next(place for place in places if place.is_dir()), next(
        (place for place in places if os.path.lexists(place) and not place.is_dir()), None
    )


def locks(runs: RunsFolder) -> Finding:
    """Whether kernel locks hold where the state lies: they tell who trains what."""
    folder, in_the_way = _existing(runs.state)
    elsewhere = "name a folder on a disk of this machine with --state or LORA_TUI_STATE"
    if in_the_way is not None:
        return problem("locks", f"{in_the_way}: not a folder", elsewhere)
    try:
        if folder == runs.state:
            make_private(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix="doctor-") as scratch:
            path = Path(scratch) / "lock"
            lock = KernelLock.acquire(path)
            held = lock is not None and is_held(path)
            if lock is not None:
                lock.release()
            if held and not is_held(path):
                return ok("locks", f"kernel locks hold in {folder}")
    except (OSError, UserError) as error:
        reason = getattr(error, "strerror", None) or error
        return problem("locks", f"{folder}: no lock can be taken ({reason})", elsewhere)
    return problem("locks", f"{folder}: kernel locks do not hold, so that two trainers could train one run", elsewhere)


# The session

_LOGIND = ("/usr/lib/systemd/logind.conf.d", "/run/systemd/logind.conf.d", "/etc/systemd/logind.conf.d")
_MOST_BYTES = 1 << 16


def session(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Finding:
    """Whether what is started here outlives the session."""
    name = "session"
    for variable, system in (("SLURM_JOB_ID", "Slurm"), ("PBS_JOBID", "PBS"), ("LSB_JOBID", "LSF")):
        if environ.get(variable):
            return warning(
                name,
                f"a job of {system}: when it ends, all that it started is killed",
                "ask for as much time as the plan takes; the next job goes on from the last checkpoint",
            )
    if not (root / "run/systemd/system").is_dir():
        return ok(name, "systemd does not run here: training goes on when the terminal is closed")
    cgroup = _text(root / "proc/self/cgroup")
    user = user_name()
    if "session-" not in cgroup or not kills_user_processes(_logind_texts(root), user):
        lingers = (root / "var/lib/systemd/linger" / user).exists()
        if "user@" in cgroup and not lingers:
            return warning(
                name,
                "a service of the user's systemd: it ends with the last login",
                f"`loginctl enable-linger {user}` lets training go on after it",
            )
        return ok(name, "training goes on after a logout (logind does not kill what is detached)")
    return warning(
        name,
        "logind kills all of a session's processes at logout (KillUserProcesses=yes)",
        f"`loginctl enable-linger {user}`, then start with `systemd-run --user --scope lora-tui …`",
    )


def kills_user_processes(texts: Iterable[str], user: str) -> bool:
    """What logind.conf and its drop-ins, in this order, come to for a user. Pure (man logind.conf)."""
    settings = {"KillUserProcesses": "no", "KillOnlyUsers": "", "KillExcludeUsers": "root"}
    for text in texts:
        for key, value in re.findall(r"^\s*(Kill\w+)\s*=[ \t]*(.*?)\s*$", text, flags=re.MULTILINE):
            settings[key] = value
    only, excluded = settings["KillOnlyUsers"].split(), settings["KillExcludeUsers"].split()
    wanted = settings["KillUserProcesses"].lower() in ("yes", "true", "on", "1", "y", "t")
    return wanted and user not in excluded and (not only or user in only)


def _logind_texts(root: Path) -> list[str]:
    main = next(
        (found for place in ("etc", "run", "usr/lib") if (found := _text(root / place / "systemd/logind.conf"))), ""
    )
    dropped: dict[str, Path] = {}
    for folder in _LOGIND:
        dropped |= {path.name: path for path in sorted((root / folder.lstrip("/")).glob("*.conf"))}
    return [main, *(_text(dropped[name]) for name in sorted(dropped))]


def _text(path: Path) -> str:
    try:
        return read_bytes(path, _MOST_BYTES, follow=True).decode(errors="replace")
    except (OSError, ValueError):
        return ""


# The terminal


def terminal(environ: Mapping[str, str] = os.environ, *, ask: bool = True) -> Iterator[Finding]:
    """Size, colours and signs of the terminal that the dashboard would be shown on; `ask`: by writing to it."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield ok("terminal", "none here: the commands print plain lines")
        return
    size = shutil.get_terminal_size()
    yield judged_terminal((size.columns, size.lines), environ)
    if ask and is_utf8(environ):
        yield judged_widths(_widths(("⠿", "·", "語")))


def judged_terminal(size: tuple[int, int], environ: Mapping[str, str]) -> Finding:
    """Pure."""
    kind = environ.get("TERM", "")
    columns, rows = size
    if kind in ("", "dumb"):
        return problem("terminal", f"TERM={kind or '(not set)'}: no dashboard can be shown", "use lora-tui --headless")
    colours = "no colours (NO_COLOR)" if environ.get("NO_COLOR") else _colours(kind, environ)
    what = f"{kind}, {columns}×{rows}, {colours}"
    if not is_utf8(environ):
        return warning("terminal", f"{what}, a locale that is not UTF-8: plots are in ASCII", "set LANG=C.UTF-8")
    if columns < _SMALLEST_TERMINAL[0] or rows < _SMALLEST_TERMINAL[1]:
        return warning("terminal", what, "make it 80×24 or larger: the dashboard leaves out what does not fit")
    return ok("terminal", what)


def _colours(kind: str, environ: Mapping[str, str]) -> str:
    if environ.get("COLORTERM") in ("truecolor", "24bit"):
        return "16 million colours"
    return "256 colours" if "256color" in kind else "16 colours"


def judged_widths(cells: Mapping[str, int | None]) -> Finding:
    """Whether signs take as many cells as the dashboard thinks; None: the terminal does not answer."""
    if None in cells.values():
        return ok("signs", "the terminal does not say how wide they are")
    wrong = [sign for sign, found in cells.items() if found != (2 if unicodedata.east_asian_width(sign) == "W" else 1)]
    if wrong:
        return warning(
            "signs", f"{' '.join(wrong)} take other widths than Unicode says: plots and tables are askew", "use --ascii"
        )
    return ok("signs", "braille and wide characters take the cells that Unicode says")


def _widths(signs: Iterable[str]) -> dict[str, int | None]:
    """Cells of each sign; one that does not answer once is not asked again."""
    found: dict[str, int | None] = {}
    for sign in signs:
        found[sign] = _cells_of(sign)
        if found[sign] is None:
            break
    return found


def _cells_of(sign: str) -> int | None:
    """How far the cursor goes when `sign` is written; the line is cleared again."""
    import select
    import termios
    import tty

    number = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(number)
    except termios.error:
        return None
    answer = b""
    try:
        tty.setcbreak(number)
        sys.stdout.write(f"\r{sign}\x1b[6n")
        sys.stdout.flush()
        while not answer.endswith(b"R") and select.select([number], [], [], _ANSWER_S)[0]:
            answer += os.read(number, 32)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
        sys.stdout.write("\r\x1b[K")
        sys.stdout.flush()
    found = re.search(rb"\x1b\[\d+;(\d+)R", answer)
    return None if found is None else int(found[1]) - 1


def has_nvidia_file(device_folder: Path = Path("/dev")) -> bool:
    """Whether the kernel has an NVIDIA GPU, whatever PyTorch is built for."""
    return (device_folder / "nvidia0").exists()


def plan_findings(document: Mapping[str, Any]) -> Sequence[Finding]:
    """What `lora-tui plan --json` says is wrong with a plan: each message says itself what to do."""
    path = str(document.get("plan"))
    problems, warnings = list(document.get("problems") or ()), list(document.get("warnings") or ())
    if not problems and not warnings:
        rows = len(document.get("rows") or ())
        return [ok("plan", f"{path}: {rows} row{'' if rows == 1 else 's'} can be run")]
    found = [Finding("plan", State.PROBLEM, str(text)) for text in problems[:PLAN_LINES]]
    if len(problems) > PLAN_LINES:
        more = f"{len(problems) - PLAN_LINES} more problems"
        found.append(problem("plan", more, f"`lora-tui plan {shlex.quote(path)}` tells them all"))
    return [*found, *(Finding("plan", State.WARNING, str(text)) for text in warnings[:PLAN_LINES])]


def forecast_of(document: Mapping[str, Any]) -> Forecast:
    """What the rows of `lora-tui plan --json` take: the memory of the largest, the disk space of all."""
    rows = [row for row in document.get("rows") or () if isinstance(row, dict)]
    memory = [row["memory"]["total"] for row in rows if row.get("memory")]
    space = [row["disk"] for row in rows if row.get("disk") is not None]
    return Forecast(max(memory, default=None), sum(space) if space else None)
