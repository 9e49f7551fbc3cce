"""Builds the embedded speech corpus: `python -m core.corpus [--sets train,replay,domain,heldout]`.

The same recipe, texts and seed give the same bytes on one machine, whatever the number of workers and the order.
A set is built beside its old version and swapped in when it is complete.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from core.console import err
from core.corpus.recipe import Recipe, Utterance, plan_corpus, read_recipe
from core.corpus.render import SAMPLE_RATE_HZ, render, write_flac
from core.corpus.synth import Synthesiser
from core.errors import ExitCode, UserError, exit_code_for
from core.system.files import write_bytes
from core.system.locks import KernelLock
from core.system.process import die_with, usable_cpus
from core.system.signals import Interrupts
from core.user_paths import user_path

BUILDER_VERSION = 1
"""Raise it when the same plan gives other bytes: every set is then built anew."""
CHUNK = 16
"""Utterances that a worker takes at a time."""


def build_corpus(recipe: Recipe, out: Path, names: Sequence[str], jobs: int = 2, force: bool = False) -> list[str]:
    """Builds the sets `names` under `out`; returns those that were not there yet."""
    plan = plan_corpus(recipe)
    (out / "audio").mkdir(parents=True, exist_ok=True)
    with _only_builder(out / "audio"):
        todo = [name for name in names if force or not is_built(out, name, plan[name])]
        if todo:
            _check_voices(recipe, todo)
            with _workers(jobs) as pool:
                for name in todo:
                    _build_set(pool, out, name, plan[name])
    return todo


def is_built(out: Path, name: str, utterances: Sequence[Utterance]) -> bool:
    """Whether the set on disk is what this plan gives: its stamp, manifest and files are there and agree."""
    folder, manifest = out / "audio" / name, out / f"{name}_manifest.jsonl"
    try:
        stamp = json.loads((folder / "stamp.json").read_text(encoding="utf-8"))
        missing = {f"{utterance.id}.flac" for utterance in utterances} - {path.name for path in folder.iterdir()}
        return not missing and bool(stamp == _stamp(utterances, manifest.read_bytes()))
    except (OSError, ValueError):
        return False


def _stamp(utterances: Sequence[Utterance], manifest: bytes) -> dict[str, Any]:
    plan = json.dumps([asdict(utterance) for utterance in utterances], sort_keys=True).encode()
    return {
        "builder": BUILDER_VERSION,
        "plan": hashlib.sha256(plan).hexdigest(),
        "manifest": hashlib.sha256(manifest).hexdigest(),
    }


def _build_set(pool: ProcessPoolExecutor, out: Path, name: str, utterances: Sequence[Utterance]) -> None:
    from tqdm import tqdm

    folder, partial = out / "audio" / name, out / "audio" / f"{name}.partial"
    if not sys.stderr.isatty():  # where there is no bar
        err(f"{name}: {len(utterances)} clips are made")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    lines = []
    durations = pool.map(_render_to, utterances, [partial] * len(utterances), chunksize=CHUNK)
    for utterance, duration_s in tqdm(
        zip(utterances, durations, strict=True), name, len(utterances), unit="clip", disable=None
    ):
        lines.append(json.dumps(_manifest_entry(name, utterance, duration_s)) + "\n")
    manifest = "".join(lines).encode()
    (partial / "stamp.json").write_text(json.dumps(_stamp(utterances, manifest), indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    write_bytes(out / f"{name}_manifest.jsonl", manifest)


def _manifest_entry(name: str, utterance: Utterance, duration_s: float) -> dict[str, Any]:
    return {
        "audio_filepath": f"audio/{name}/{utterance.id}.flac",
        "text": utterance.text,
        "duration": round(duration_s, 3),
        "speaker": utterance.speaker,
        "accent": utterance.accent,
        "rate_wpm": utterance.prosody.rate_wpm,
        "snr_db": utterance.snr_db,
    }


@contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    lock = KernelLock.acquire(folder / ".lock")
    if lock is None:
        raise UserError(f"{folder}: another build is at work here: wait for it to end")
    try:
        yield
    finally:
        lock.release()


def _check_voices(recipe: Recipe, names: Sequence[str]) -> None:
    shipped = Synthesiser().variants()
    for name in names:
        group = recipe.sets[name].voices
        for variant in recipe.voices[group]:
            if variant not in shipped:
                raise UserError(f'{recipe.path}: voices.{group}: espeak-ng has no variant "{variant}"')


@contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that are single-threaded (they fork) and end with this one."""
    environment = dict(os.environ)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        os.environ.clear()
        os.environ.update(environment)


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with(parent)
    _synthesiser()


@cache
def _synthesiser() -> Synthesiser:
    """The worker's own, started once."""
    return Synthesiser()


def _render_to(utterance: Utterance, folder: Path) -> float:
    samples = render(utterance, _synthesiser())
    write_flac(folder / f"{utterance.id}.flac", samples)
    return len(samples) / SAMPLE_RATE_HZ


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m core.corpus", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", type=user_path, default=Path("data/recipe.toml"), help="default: %(default)s")
    parser.add_argument(
        "--out", type=user_path, default=Path("data"), help="folder of the manifests; default: %(default)s"
    )
    parser.add_argument("--sets", help="comma-separated; default: all that the recipe does not make on request only")
    parser.add_argument("--jobs", type=int, default=usable_cpus(), help="worker processes; default: %(default)s")
    parser.add_argument("--force", action="store_true", help="build even what is there already")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(ExitCode.BAD_USAGE) if stop.code else 0
    try:
        if options.jobs < 1:
            raise UserError(f"--jobs must be 1 or more, not {options.jobs}")
        recipe = read_recipe(options.recipe)
        names = _chosen_sets(recipe, options.sets)
        with Interrupts():
            built = build_corpus(recipe, options.out, names, options.jobs, options.force)
    except UserError as error:
        err(f"error: {error}", multiline=True)
        return int(ExitCode.BAD_USAGE)
    except OSError as error:
        err(f"error: {error.filename or options.out}: {error.strerror or error}")
        return int(ExitCode.BAD_USAGE)
    except KeyboardInterrupt as stop:
        err("interrupted: complete sets are kept, the one at work was not touched")
        return int(exit_code_for(stop))
    kept = [name for name in names if name not in built]
    err(f"built: {', '.join(built) or 'nothing'}; up to date: {', '.join(kept) or 'none'}")
    return 0


def _chosen_sets(recipe: Recipe, wanted: str | None) -> list[str]:
    if wanted is None:
        return [one.name for one in recipe.sets.values() if not one.on_request]
    names = list(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    for name in names:
        if name not in recipe.sets:
            raise UserError(f'--sets: {recipe.path} has no set "{name}"; it has {", ".join(recipe.sets)}')
    return names
