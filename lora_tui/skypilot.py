"""`lora-tui plan --emit skypilot`: a plan as a task of SkyPilot, which rents machines of clouds and of Kubernetes.

What the plan names is mounted at the paths that it has here, so that the plan says the same there. Nothing is sent or
run here: `sky launch FILE` does that. Fields: https://docs.skypilot.co/en/latest/reference/yaml-spec.html.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.manifests.manifest import read_manifest
from core.manifests.sets import set_paths
from core.plan.exports import target_of
from core.plan.schema import Plan, RunSettings
from core.queue.forecast import forecast_bytes
from core.runs.folder import size
from core.runs.memory_forecast import RUNTIME_BYTES, memory_forecast
from core.user_paths import user_path
from core.version import PACKAGE, this_version

GPUS: Mapping[str, int] = {
    "L4": 24,
    "A10G": 24,
    "A100": 40,
    "L40S": 48,
    "A100-80GB": 80,
    "H100": 80,
    "H200": 141,
}
"""GPUs that many clouds rent, by SkyPilot's names, and their memory in GB; all of them compute in bf16."""
_SPARE = 1.25
"""Of a GPU's memory over the forecast."""
_ENVIRONMENT_GB = 40
"""Disk for the system, PyTorch with CUDA, and decoded audio."""
_LEAST_RAM_GB = 16
_LEAST_CPUS = 4
_MOST_FOLDERS = 20
"""Folders of audio that are mounted one by one; more of them lie in fewer that are mounted whole."""
_ENVIRONMENT = "~/lora-tui"
RUNS = "~/lora-tui-runs"
"""The runs folder there."""


@dataclass(slots=True)
class _Mounts:
    """Files and folders of this machine, by the paths that they have on the other one."""

    files: dict[str, Path] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)

    def plain(self) -> dict[str, str]:
        """Path there → path here, without what lies in a folder that is mounted."""
        kept = {there: here for there, here in self.folders.items() if not _inside(there, self.folders)}
        kept |= {there: here for there, here in self.files.items() if not _inside(there, self.folders)}
        return {there: str(kept[there]) for there in sorted(kept)}

    @property
    def bytes(self) -> int:
        """Of all of it, about: what cannot be read counts as nothing."""
        return sum(size(path.parent, path) for path in map(Path, self.plain().values()))


def task(plan: Plan, asked: Sequence[tuple[RunSettings, RunSettings]], options: Sequence[str]) -> dict[str, Any]:
    """The document of a plan's task. UserError for a manifest that cannot be read.

    `asked`: of each row its settings as the plan writes them, and with absolute paths. `options`: of the command there.
    """
    if not asked:
        raise UserError(f"{plan.path}: has no rows that a machine could be asked for")
    path = Path(plan.path).absolute()
    mounts = _mounts(path, asked)
    rows = [settings for _, settings in asked]
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")
    command = ["lora-tui", "--headless", "--gate", str(path), *options]
    required = shlex.quote(_requirement(plan, rows))
    return {
        "name": f"lora-tui-{name}".rstrip("-"),
        "num_nodes": 1,
        "resources": _resources(rows, mounts.bytes),
        "file_mounts": mounts.plain(),
        "setup": f"python3 -m venv {_ENVIRONMENT}\n{_ENVIRONMENT}/bin/pip install {required}\n",
        "run": f"{_ENVIRONMENT}/bin/{shlex.join(command)} --runs {RUNS}\n",
    }


def text(document: Mapping[str, Any]) -> str:
    """The task as YAML."""
    import yaml

    def written(dumper: Any, one: str) -> Any:
        """Texts of several lines as they are."""
        return dumper.represent_scalar("tag:yaml.org,2002:str", one, style="|" if "\n" in one else None)

    dumper = type("Dumper", (yaml.SafeDumper,), {})
    dumper.add_representer(str, written)  # type: ignore[attr-defined]
    return str(yaml.dump(dict(document), Dumper=dumper, sort_keys=False, allow_unicode=True, width=1000))


def _resources(rows: Sequence[RunSettings], data_bytes: int) -> dict[str, Any]:
    """The GPUs that are large enough for each row, any of which will do, and the machine that they need."""
    devices = max(row.train.devices for row in rows)
    forecasts = [forecast for row in rows if (forecast := memory_forecast(row, on_cpu=False)) is not None]
    need_gb = _SPARE * max((one.total for one in forecasts), default=0) / 1e9
    fitting = [name for name, memory in GPUS.items() if memory >= need_gb] or [max(GPUS, key=lambda name: GPUS[name])]
    model = max((one.model for one in forecasts), default=0)
    # each process reads the weights into memory before they go to its GPU
    ram_gb = max(_LEAST_RAM_GB, math.ceil(devices * (2 * model + 2 * RUNTIME_BYTES) / 1e9))
    disk_gb = math.ceil((sum(map(forecast_bytes, rows)) + 2 * data_bytes) / 1e9) + _ENVIRONMENT_GB
    cpus = max(_LEAST_CPUS, 2 * devices, *(row.train.threads for row in rows))
    return {
        "accelerators": [f"{name}:{devices}" for name in fitting],
        "cpus": f"{cpus}+",
        "memory": f"{ram_gb}+",
        "disk_size": disk_gb,
    }


def _requirement(plan: Plan, rows: Iterable[RunSettings]) -> str:
    """What pip installs: this release, with the extras that the plan needs."""
    extras = {"8bit" for row in rows if row.train.base_precision == "8bit"} | set(plan.queue.sinks)
    served = None if plan.gate.runtime is None else target_of(plan.gate.runtime)
    if served is not None and served.form.extra is not None:
        extras.add(served.form.extra)
    version = this_version()
    chosen = f"[{','.join(sorted(extras))}]" if extras else ""
    return f"{PACKAGE}{chosen}" + (f"=={version.release}" if version.release != "unknown" else "")


def _mounts(plan: Path, asked: Iterable[tuple[RunSettings, RunSettings]]) -> _Mounts:
    mounts = _Mounts({str(plan): plan})
    seen: set[tuple[str, str]] = set()
    for written, absolute in asked:
        names = [(written.model.id, absolute.model.id)]
        if (noise := absolute.train.augment.noise) is not None:
            names.append((str(written.train.augment.noise), noise))
        for name, folder in names:
            if Path(folder).is_dir():
                mounts.folders[_there(Path(folder), name)] = Path(folder).absolute()
        as_written = set_paths(written.data)
        for role, manifest in set_paths(absolute.data).items():
            if (as_written[role], manifest) not in seen:
                seen.add((as_written[role], manifest))
                _add_manifest(mounts, Path(manifest), as_written[role])
    return mounts


def _add_manifest(mounts: _Mounts, manifest: Path, written: str) -> None:
    """The manifest and the folders of its audio. UserError where it cannot be read."""
    mounts.files[_there(manifest, written)] = manifest
    try:
        utterances = read_manifest(manifest, check_audio=False).utterances
    except OSError as error:
        raise UserError(f"{manifest}: cannot be read: {error.strerror or error}") from error
    # a path of its own that a line names does not move with the manifest
    relative = {one.audio.parent for one in utterances if not one.id.startswith(("/", "~"))}
    own = {one.audio.parent for one in utterances} - relative
    for folder in _few(relative):
        mounts.folders[_there(folder, written)] = folder
    for folder in _few(own):
        mounts.folders[str(folder)] = folder


def _there(here: Path, written: str) -> str:
    """Where a path of this machine lies on the other: at the same place, or in the home folder that the plan names."""
    if written.startswith("~/"):
        with suppress(ValueError, UserError):
            return f"~/{here.absolute().relative_to(user_path('~'))}"
    return str(here.absolute())


def _few(folders: Collection[Path]) -> list[Path]:
    """The folders without those that lie in another; where there are many, the deepest give way to what they are in."""
    kept = _outermost(folders)
    while len(kept) > _MOST_FOLDERS:
        depth = max(len(folder.parts) for folder in kept)
        kept = _outermost({folder.parent if len(folder.parts) == depth else folder for folder in kept})
    return sorted(kept)


def _outermost(folders: Collection[Path]) -> set[Path]:
    every = set(folders)
    return {folder for folder in every if not every.intersection(folder.parents)}


def _inside(path: str, folders: Collection[str]) -> bool:
    return any(str(parent) in folders for parent in Path(path).parents)
