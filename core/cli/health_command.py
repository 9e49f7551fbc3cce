"""`lora-cli manifest check --run RUN_DIR`: audit the data of a run, once for equal data, for its verdict."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from core.cli.progress import progress_bar
from core.console import document, out
from core.errors import ExitCode, RunFolderError, UserError, is_disk_full
from core.manifests.hashing import HashCache
from core.plan.identity import settings_from
from core.runs import folder
from core.runs.data_health import audited_hashes, believed, read_health, read_shared, write_shared
from core.runs.documents import read_config
from core.runs.health_text import together_sentence
from core.runs.paths import RunPaths
from core.runs.position import write_positions
from core.runs.state_folder import runs_folder
from core.scoring.data_health import KINDS, DataHealth, copies_sentence, leak_sentence
from core.system.files import read_json
from core.system.held_folder import HeldFolder
from core.system.locks import held


def check_run(args: argparse.Namespace) -> ExitCode:
    """Put the audit of its data into a run's folder; say what it found. Exit code 1: leakage, or too many copies."""
    paths = RunPaths(args.run.absolute())
    config, problem = read_config(paths)
    if config is None:
        raise RunFolderError(
            problem or f"{paths.root}: no run folder: it holds no {paths.config.name}; name runs/<run>"
        )
    health, _ = read_health(paths, config)
    if health is None:
        health = _audited(paths, config, args.workers)
    if paths.evaluation(0, "domain").is_file() and not paths.position.is_file():
        write_positions(paths)
    if args.json:
        document(read_json(paths.data_health)[0])
    else:
        for line in _lines(health):
            out(line, 240)
    return ExitCode.REJECTED if health.leaks or health.too_many_copies else ExitCode.ACCEPTED


def _audited(paths: RunPaths, config: dict[str, Any], workers: int | None) -> DataHealth:
    from core.audit.health import health_document, health_key

    hashes = audited_hashes(config)
    try:
        data = settings_from(config["settings"]).data
        manifests = {name: Path(getattr(data, name)) for name in hashes}
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{paths.config}: cannot be read as a run ({error}): restore the file") from error
    runs, home = runs_folder(paths.root.parent), HeldFolder(paths.root)
    try:
        with progress_bar("listening") as show:
            key = health_key(manifests, hashes, data.target_rms, HashCache(runs.hash_cache), lambda done, total: None)
            with held(runs.data_health_lock(key), lambda: None):
                kept = read_shared(runs.root, key)
                found = believed(kept, hashes) if kept is not None else ""
                if kept is None or isinstance(found, str):
                    kept = health_document(manifests, hashes, data.target_rms, key, show, workers)
                    found = believed(kept, hashes)
                    _check_folder(home)
                    write_shared(runs.root, key, kept)
            _check_folder(home)
            folder.write_json(paths.root, paths.data_health, kept)
    except OSError as error:
        if is_disk_full(error) or not error.filename:
            raise
        raise UserError(f"{error.filename}: cannot be written ({error.strerror}): give write permission") from error
    if isinstance(found, str):
        raise RunFolderError(f"{paths.config}: its data cannot be audited: {found}")
    return found


def _check_folder(home: HeldFolder) -> None:
    """RunFolderError when the run was moved or deleted meanwhile: nothing is made anew where it was."""
    if lost := home.lost():
        raise RunFolderError(f"the audit is not written: {lost}")


def _lines(health: DataHealth) -> list[str]:
    lines = []
    for one in health.sets:
        speakers = f"{one.speakers} speakers" if one.speakers else "speakers not told"
        sizes = f"{one.clips} clips, {one.words} words, {one.seconds / 3600:.2f} h, {speakers}"
        lines.append(f"{one.name}: {sizes}, {one.silent} silent, {one.clipped} clipped")
    for shared in health.shared:
        what = "speakers" if shared.kind == "speaker" else "clips"
        word = "LEAK" if shared.leak else "shared"
        lines.append(f"{word}: {KINDS[shared.kind]}: {shared.count} {what} of {shared.dataset} in {shared.other}")
        lines += [f"    {example}" for example in shared.examples[:2]]
    lines += [f"copies: {copies_sentence(health, [one])}" for one in health.copies]
    lines += [f"not independent: {together_sentence(one)}" for one in health.together]
    if health.leaks:
        lines.append(f"data health: {leak_sentence(health.leaks)}: a WER on them means nothing")
    elif health.too_many_copies:
        lines.append("data health: too many clips are copies of others for a WER to be judged")
    else:
        lines.append("data health: no recording of an evaluation set is in training")
    return lines
