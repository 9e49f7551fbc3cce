"""What `lora-cli manifest …` does. Thin: the work is done in `core.manifests` and `core.audit`. Never imports torch.

`manifest check --run RUN_DIR` audits the data of a run for its verdict, once for equal data.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from core.console import READING_S, Progress, document, err, out, progress_bar
from core.errors import ExitCode, RunFolderError, UserError, is_disk_full
from core.manifests.hashing import HashCache
from core.manifests.sets import read_set
from core.plan.identity import settings_from
from core.runs import folder
from core.runs.data_health import audited_hashes, believed, read_health, read_shared, together_sentence, write_shared
from core.runs.documents import read_config
from core.runs.paths import RunPaths
from core.runs.position import write_positions
from core.runs.state_folder import runs_folder
from core.sanitise import sanitise
from core.scoring.data_health import KINDS, SETS, DataHealth, copies_sentence, leak_sentence
from core.system.files import HeldFolder, read_json, write_text
from core.system.locks import held

if TYPE_CHECKING:
    from core.audit.expand import Request


Item = TypeVar("Item")
_HIGHEST = 1e9
"""Of the numbers that `normalise` takes, as in a manifest."""


def check(args: argparse.Namespace) -> ExitCode:
    """Audit manifests; print one screen or JSON."""
    from core.audit.audit import Source, as_json, audit, full_list, screen
    from core.audit.line_checks import TextCheck

    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: must be 1 or more")
    if args.run is not None:
        roles = [f"--{role}" for role in SETS if getattr(args, role)]
        others = [*map(str, args.manifests), *roles, *(["--no-audio"] if args.no_audio else [])]
        if others or args.report or args.model:
            raise UserError(f"manifest check --run {args.run}: takes the run's own sets: leave out everything else")
        return check_run(args)
    given: list[tuple[Path, str | None]] = [(path, role) for role in SETS for path in getattr(args, role)]
    given += [(path, None) for path in args.manifests]
    if not given:
        raise UserError("manifest check: no manifest given; name one, or give --train, --domain, --heldout …, or --run")
    sources: list[Source] = []
    for path, role in given:
        name = role or path.stem
        taken = {source.name for source in sources}
        unique = name if name not in taken else next(n for i in range(2, 9999) if (n := f"{name}{i}") not in taken)
        sources.append(Source(path, role, unique))
    with progress_bar("reading", READING_S) as reading, progress_bar("listening", READING_S) as show:
        result = audit(
            sources,
            listen=not args.no_audio,
            workers=args.workers,
            text_check=TextCheck(args.model) if args.model else None,
            progress=show,
            reading=reading,
        )
    if args.report:
        write_text(args.report, "".join(f"{_safe_row(line)}\n" for line in full_list(result)))
    if args.json:
        document(as_json(result))
    else:
        for line in screen(result):
            out(line, 240)
        if args.report:
            out(f"all findings: {args.report}")
    return ExitCode.REJECTED if result.blocking else ExitCode.ACCEPTED


def _safe_row(row: str) -> str:
    return "\t".join(sanitise(cell) for cell in row.split("\t"))


def expand(args: argparse.Namespace) -> ExitCode:
    """Build a set from a pool; say what the pool lacks."""
    from core.audit.expand import Request
    from core.manifests.manifest import refuse_to_overwrite

    refuse_to_overwrite(args.output, args.force)
    fields = None if args.stratify is None else [name.strip() for name in args.stratify.split(",") if name.strip()]
    request = Request(
        pools=args.pool,
        size=args.size,
        seed=args.seed,
        exclude=args.exclude,
        keep=args.keep,
        fields=fields,
        shared_speakers=args.shared_speakers,
        exclude_near_texts=args.exclude_near_texts,
        listen=args.listen,
    )
    return write_expansion(request, args.output, args.force)


def write_expansion(request: Request, output: Path, force: bool) -> ExitCode:
    """Choose the set, write it, say what is in it and what is not."""
    from core.audit import expand as expand_manifest
    from core.manifests.manifest import manifest_line, write_manifest

    if request.size < 1:
        raise UserError(f"--size {request.size}: must be 1 or more")
    what = "listening" if request.listen else "looking at files"
    with progress_bar("reading", READING_S) as reading, progress_bar(what, READING_S) as show:
        result = expand_manifest.expand(request, show, reading)
    for sentence in expand_manifest.lacks(request, result):
        err(sentence)
    if not result.utterances:
        raise UserError(f"{output}: nothing to write: the pool has no usable clip; give more --pool manifests")
    count = write_manifest(output, (manifest_line(u, output.parent) for u in result.utterances), force)
    out(f"{output}: {count} clips, {result.kept} of them kept, seed {request.seed}")
    return ExitCode.REJECTED if count < request.size else ExitCode.ACCEPTED


def import_set(args: argparse.Namespace) -> ExitCode:
    """Make a manifest of another tool's set, whole or a fair sample of it; it must be one that can be read."""
    from core.manifests.array_import import importing
    from core.manifests.exchange import import_lines
    from core.manifests.manifest import refuse_to_overwrite

    refuse_to_overwrite(args.output, args.force)
    if args.size is not None and args.size < 1:
        raise UserError(f"--size {args.size}: must be 1 or more")
    # a path through a folder that is not there yet leads nowhere
    args.output.parent.absolute().mkdir(parents=True, exist_ok=True)
    with importing(args.output, args.force) if args.kind == "arrays" else nullcontext() as samples:
        with progress_bar("importing") as show:
            lines = list(_counted(import_lines(args.kind, args.source, args.output, args.text_column), show))
        if samples is not None:
            samples.publish()
        return _write_import(args, lines)


def _write_import(args: argparse.Namespace, lines: list[dict[str, Any]]) -> ExitCode:
    """The manifest of what was imported."""
    import tempfile

    from core.audit.expand import Request
    from core.manifests.manifest import write_manifest

    folder = args.output.parent.absolute()
    if not lines:
        raise UserError(f"{args.source}: no clip in it: correct it")
    if args.size is None and not args.exclude:
        count = write_manifest(args.output, lines, args.force)
        out(f"{args.output}: {count} clips")
        return ExitCode.ACCEPTED
    with tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as scratch:
        pool = Path(scratch) / "pool.jsonl"
        write_manifest(pool, (line | {"audio_filepath": str(folder / line["audio_filepath"])} for line in lines))
        request = Request(
            pools=[pool],
            size=args.size or len(lines),
            seed=args.seed,
            exclude=args.exclude,
            shared_speakers=args.shared_speakers,
        )
        code = write_expansion(request, args.output, args.force)
    return code if args.size else ExitCode.ACCEPTED


def export_set(args: argparse.Namespace) -> ExitCode:
    """Write a manifest for another tool."""
    from core.manifests.exchange import export_rows
    from core.manifests.manifest import read_manifest, refuse_to_overwrite

    refuse_to_overwrite(args.output, args.force)
    manifest = read_manifest(args.source)
    with progress_bar("exporting") as show:
        rows = list(_counted(export_rows(args.kind, manifest, args.output.parent), show))
    write_text(args.output, "".join(rows))
    out(f"{args.output}: {len(manifest)} clips")
    return ExitCode.ACCEPTED


def _counted(items: Iterable[Item], show: Progress) -> Iterator[Item]:
    """`items`, shown as they come; nobody knows how many there will be."""
    for done, item in enumerate(items, 1):
        show(done, 0)
        yield item


def normalise(args: argparse.Namespace) -> ExitCode:
    """Write what the model hears of a file; say what was done to it."""
    import io

    import soundfile

    from core.audio import samples as audio
    from core.audio.probe import probe_fingerprint
    from core.manifests.manifest import refuse_to_overwrite
    from core.system.files import write_bytes

    if args.output.suffix.lower() != ".wav":
        raise UserError(f"{args.output}: must end in .wav: other formats would round the samples")
    for option, low in (("offset", 0.0), ("duration", 1e-4), ("target_rms", 1e-4)):
        value = getattr(args, option)
        if value is not None and not low <= value <= _HIGHEST:
            raise UserError(f"--{option.replace('_', '-')} {value:g}: must be a number from {low:g} to {_HIGHEST:g}")
    refuse_to_overwrite(args.output, args.force)
    clip = audio.decode_clip(args.input, args.offset, args.duration, channel=args.channel)
    heard = audio.normalise(clip.samples, args.target_rms)
    buffer = io.BytesIO()
    soundfile.write(buffer, heard.samples, audio.SAMPLE_RATE_HZ, subtype="FLOAT", format="WAV")
    write_bytes(args.output, buffer.getvalue())
    seconds = len(heard.samples) / audio.SAMPLE_RATE_HZ
    out(f"{args.output}: {seconds:.3f} s, from {clip.rate_hz} Hz, {clip.channels} channels")
    level = "silence (RMS below 1e-4), left as it is" if heard.silent else f"brought to {args.target_rms:g}"
    out(f"RMS {heard.rms_before:.5f}, {level}; {heard.clipped} samples clamped")
    out(f"audio path {audio.audio_fingerprint(args.target_rms)}, proved by {probe_fingerprint(args.target_rms)}")
    return ExitCode.ACCEPTED


def run_manifest(args: argparse.Namespace) -> ExitCode:
    """`lora-cli manifest ACTION`."""
    actions = {"check": check, "expand": expand, "import": import_set, "export": export_set}
    return actions[args.action](args)


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
        manifests = {name: read_set(data, name) for name in hashes}
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
        lines.append(f"data health: {leak_sentence(health.leaks)}: an error rate on them means nothing")
    elif health.too_many_copies:
        lines.append("data health: too many clips are copies of others for an error rate to be judged")
    else:
        lines.append("data health: no recording of an evaluation set is in training")
    return lines
