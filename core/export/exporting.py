"""From an adapter to a folder that can be shipped, judged in its own runtime: all of it, or nothing.

The folder is written beside its place, the sets are decoded by a process of its own (`core.export.serve`), and only
then is it renamed. What the runtime said is written into the run folder (`core.runs.exports`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from core.errors import Interrupted, UserError, exit_code_for
from core.export.serve import Request, as_json
from core.export.source import SETS, Source, base_hash, model_type, revision
from core.plan.exports import Target, target_of
from core.runs.exports import (
    METHOD_VERSION,
    SCHEMA_VERSION,
    Export,
    ExportedFile,
    RuntimeNamed,
    compared,
    exports_of,
    hashes_of,
    read_export,
    served_set,
    write_export,
    wrong_export,
)
from core.runs.model_card import render
from core.runs.scores import Score, read_score
from core.sanitise import quoted
from core.scoring.served import Difference
from core.system.files import fsync_folder, is_file, read_json, write_json, write_text
from core.system.process import PARENT_VARIABLE, end

_STOP_S = 10.0
_MADE_WITH = ("transformers", "torch", "peft", "safetensors", "ctranslate2", "moonshine-voice", "onnx")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was made, and what came of it in its runtime."""

    folder: Path
    conversion: dict[str, Any]
    runtime: RuntimeNamed | None = None
    differences: dict[str, Difference] = field(default_factory=dict)
    """By set; empty: the sets could not be decoded."""
    unjudged: str = ""
    """Why not."""
    document: Path | None = None
    """The run's export.json."""

    @property
    def changed(self) -> int:
        """Transcripts that are not those that were judged, of all sets."""
        return sum(one.changed for one in self.differences.values())


def check(source: Source, target: Target, folder: Path) -> None:
    """Raise UserError for what can be seen before anything is loaded."""
    refused = target.form.refusal(model_type(source))
    if refused is not None:
        raise UserError(refused)
    if source.facts.audio_context is not None:
        raise UserError(
            f"--to {target.form.name}: this adapter was trained and judged with model.audio_context = "
            f"{source.facts.audio_context:g}, and whatever serves an export hears Whisper's whole window: its verdict "
            "says nothing of that; serve it with lora-cli transcribe, or train without audio_context"
        )
    _check_runtime(target)
    if folder.exists() or folder.is_symlink():
        raise UserError(f"-o {folder}: is there already; give a folder that is not, or delete it first")
    if not folder.parent.is_dir():
        raise UserError(f"-o {folder}: there is no folder {folder.parent}; make it first")
    evidence = source.adapter if source.run is None else source.run.snapshot.paths.root
    if folder.parent.resolve().is_relative_to(evidence.resolve()):
        raise UserError(f"-o {folder}: inside {evidence}, where only what is judged belongs; name a folder elsewhere")
    run = None if source.run is None or _why_unjudged(source) else source.run.snapshot.paths.root
    if run is not None and not os.access(run, os.W_OK):
        raise UserError(
            f"{run}: cannot be written, and what the runtime says is to stand there: copy the run folder first"
        )


def _check_runtime(target: Target) -> None:
    missing = [name for name in target.form.needs if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--to {target.form.name}: {' and '.join(missing)} not installed: "
            f"pip install 'lora-tui[{target.form.extra}]'"
        )


def export(source: Source, target: Target, folder: Path, **options: Any) -> Exported:
    """Make the export in `folder`, which is not there yet, and judge it. `options`: of the form's own module.

    UserError, OSError; then nothing is there.
    """
    folder = folder.absolute()
    check(source, target, folder)
    with _beside(folder) as made:
        conversion = import_module(f"core.export.{target.form.name}").write(source, made, target.precision, **options)
        if source.run is not None:
            write_text(made / "README.md", render(source.run, target))
        unjudged = _why_unjudged(source)
        if source.run is None or unjudged:
            return Exported(folder, conversion, unjudged=unjudged)
        served, runtime = _served(source, target, made)
        differences = {name: compared(source.scores[name], served[name]) for name in served}
        # before the folder takes its place: where they cannot be written, nothing is left
        document = write_export(
            source.run.snapshot.paths,
            Export(
                schema=SCHEMA_VERSION,
                method=METHOD_VERSION,
                target=str(target),
                identity=source.run.snapshot.identity,
                adapter_hash=source.digest,
                folder=str(folder),
                files=hashes_of(made),
                runtime=runtime,
                made_with=_versions(),
                conversion=conversion,
                sets={name: served_set(one) for name, one in differences.items()},
            ),
            served,
        )
    return Exported(folder, conversion, runtime, differences, "", document)


@dataclass(frozen=True, slots=True)
class HeardAgain:
    """Whether a folder is an export of a run, and still says what the run has of its runtime."""

    problems: tuple[str, ...]
    unchecked: tuple[str, ...] = ()
    """What differs in another runtime than the one that the run names."""
    found: str = ""
    """What was decoded and says the same, in words."""


def hear_again(source: Source, folder: Path) -> HeardAgain:
    """Decode the sets once more from an export of the run, wherever it lies now. UserError where that cannot be done.

    The folder is named by whoever asks, and known by the hashes of its files: a run folder never says what is loaded.
    """
    unjudged = _why_unjudged(source)
    if source.run is None or unjudged:
        raise UserError(unjudged)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one that `lora-cli export` wrote")
    paths, here = source.run.snapshot.paths, hashes_of(folder)
    told = {name: export for name in exports_of(paths) if (export := read_export(paths, name)[0]) is not None}
    same = [(name, export) for name, export in told.items() if export.files == here]
    if not same:
        return HeardAgain((_no_export(folder, here, told),))
    [(name, export), *_] = same
    wrong = next(wrong_export(paths, name, export, source.digest), None)
    target = target_of(export.target)
    if wrong is not None or target is None:
        return HeardAgain((wrong or f"{paths.export(name)}: {quoted(export.target)} is no form of an export",))
    _check_runtime(target)
    served, runtime = _served(source, target, folder.absolute())
    differing = {
        dataset: _differing(read_score(paths.served(name, dataset))[0], now) for dataset, now in served.items()
    }
    said = [
        f"{count} of {len(served[dataset].utterances)} transcripts of {dataset}" for dataset, count in differing.items()
    ]
    what = f"{target}, heard again from {folder}: {' and '.join(said)} are not those in {paths.export(name).parent}"
    if not any(differing.values()):
        return HeardAgain((), (), what)
    if runtime == export.runtime:
        return HeardAgain((what,))
    other = f"{what}; they were heard by {_named(export.runtime)}, and now by {_named(runtime)}"
    return HeardAgain((), (other,))


def _no_export(folder: Path, here: Mapping[str, ExportedFile], told: Mapping[str, Export]) -> str:
    """Which file is not as it was, of the export that is nearest."""
    if not told:
        return f"{folder}: the run has no export; `lora-cli export` makes one"

    def differing(export: Export) -> list[str]:
        return sorted(name for name in here.keys() | export.files.keys() if here.get(name) != export.files.get(name))

    nearest = min(told.values(), key=lambda export: len(differing(export)))
    names = ", ".join(quoted(name) for name in differing(nearest)[:3])
    return f"{folder}: no export of this run; of {quoted(nearest.target)}, the nearest, other files are {names}"


def _differing(then: Score | None, now: Score) -> int:
    before = () if then is None else then.utterances
    pairs = list(zip(before, now.utterances, strict=False))
    return len(now.utterances) - sum(one.hypothesis == other.hypothesis for one, other in pairs)


def _named(runtime: RuntimeNamed) -> str:
    return quoted(f"{runtime.name} {runtime.version} on {runtime.device} in {runtime.precision}")


def _why_unjudged(source: Source) -> str:
    """Why there is nothing to compare the export with, or nothing."""
    if source.run is None:
        return "the adapter is not the best one of a run folder, so there are no judged transcripts to compare with"
    if not source.scores:
        return "the run has no tuned scores of this adapter, so there are no judged transcripts to compare with"
    gone = [str(path) for path in source.manifests.values() if not is_file(path)]
    return f"{gone[0]} is not on this machine, so the sets could not be decoded" if gone else ""


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place at the end, and is deleted when anything goes wrong."""
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        yield made
        made.chmod(0o755)
        for where, _, names in os.walk(made):
            for name in names:
                with Path(where, name).open("rb") as file:
                    os.fsync(file.fileno())
        if folder.exists():
            raise UserError(f"-o {folder}: appeared meanwhile; give another folder")
        made.rename(folder)
        fsync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def runtime_request(source: Source, target: Target, folder: Path, output: Path) -> Request:
    """What the process of the runtime is asked: to decode the run's sets from `folder`, its documents into `output`."""
    return Request(
        target=str(target),
        folder=str(folder),
        model=source.model,
        revision=revision(source),
        base_hash=base_hash(source),
        facts=source.facts,
        adapter_hash=source.digest,
        unit=source.scores[SETS[0]].unit,
        sets={name: str(path) for name, path in source.manifests.items()},
        decode={name: score.decode for name, score in source.scores.items()},
        output=str(output),
    )


def _served(source: Source, target: Target, made: Path) -> tuple[dict[str, Score], RuntimeNamed]:
    """What the runtime makes of each set, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="lora-cli-") as scratch:
        request = runtime_request(source, target, made, Path(scratch))
        where = Path(scratch) / "request.json"
        write_json(where, as_json(request))
        _run([sys.executable, "-P", "-m", "core.export", str(where)], target)
        served: dict[str, Score] = {}
        for name in SETS:
            score, problem = read_score(Path(scratch) / f"{name}.json")
            if score is None:
                raise UserError(f"{target}: its runtime wrote no score of {name} ({problem})")
            if score.manifest_sha256 != source.scores[name].manifest_sha256:
                raise UserError(
                    f"{source.manifests[name]}: not the texts and audio that the adapter was judged on: bring that "
                    "manifest anew"
                )
            served[name] = score
        document, problem = read_json(Path(scratch) / "runtime.json")
        if document is None:
            raise UserError(f"{target}: its runtime did not say what it is ({problem})")
        return served, msgspec.convert(document, RuntimeNamed)


def _run(command: list[str], target: Target) -> None:
    environment = os.environ | {PARENT_VARIABLE: str(os.getpid())}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=os.sep, env=environment) as child:
        try:
            status = child.wait()
        except BaseException:
            end(child, _STOP_S)
            raise
    if status == int(exit_code_for(Interrupted())):
        raise KeyboardInterrupt
    if status != 0:
        died = f"was killed by signal {-status}" if status < 0 else f"ended with exit code {status}"
        raise UserError(f"{target}: the process that was to judge it {died}; its message is above")


def _versions() -> dict[str, str]:
    found = {}
    for name in _MADE_WITH:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
