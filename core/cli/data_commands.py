"""What `lora-cli manifest …` does. Thin: the work is `core.speech`'s. Never imports torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from core.cli.data_arguments import ROLES
from core.errors import ExitCode, UserError
from core.runs.files import write_text
from core.sanitise import sanitise

Progress = Callable[[int, int], None]


@contextmanager
def progress_bar(what: str) -> Generator[Progress, None, None]:
    """A bar on stderr when that is a terminal; nothing otherwise."""
    from tqdm import tqdm

    bar = tqdm(desc=what, unit=" clips", disable=not sys.stderr.isatty(), file=sys.stderr, leave=False)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    with bar:
        yield show


def check(args: argparse.Namespace) -> ExitCode:
    """Audit manifests; print one screen or JSON."""
    from core.speech import audit_report
    from core.speech.audit import Source, audit
    from core.speech.writable import text_check

    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: must be 1 or more")
    if args.run is not None:
        from core.cli.health_command import check_run

        roles = [f"--{role}" for role in ROLES if getattr(args, role)]
        others = [*map(str, args.manifests), *roles, *(["--no-audio"] if args.no_audio else [])]
        if others or args.report or args.model:
            raise UserError(f"manifest check --run {args.run}: takes the run's own sets: leave out everything else")
        return check_run(args)
    given: list[tuple[Path, str | None]] = [(path, role) for role in ROLES for path in getattr(args, role)]
    given += [(path, None) for path in args.manifests]
    if not given:
        raise UserError("manifest check: no manifest given; name one, or give --train, --domain, --heldout …, or --run")
    sources: list[Source] = []
    for path, role in given:
        name = role or path.stem
        taken = {source.name for source in sources}
        unique = name if name not in taken else next(n for i in range(2, 9999) if (n := f"{name}{i}") not in taken)
        sources.append(Source(path, role, unique))
    with progress_bar("listening") as show:
        result = audit(
            sources,
            listen=not args.no_audio,
            workers=args.workers,
            text_check=text_check(args.model) if args.model else None,
            progress=show,
        )
    if args.report:
        write_text(args.report, "".join(f"{_safe_row(line)}\n" for line in audit_report.full_list(result)))
    if args.json:
        print(json.dumps(audit_report.as_json(result)))
    else:
        for line in audit_report.screen(result):
            print(sanitise(line, 240))
        if args.report:
            print(f"all findings: {sanitise(str(args.report))}")
    return ExitCode.REJECTED if result.blocking else ExitCode.ACCEPTED


def _safe_row(row: str) -> str:
    return "\t".join(sanitise(cell) for cell in row.split("\t"))


def expand(args: argparse.Namespace) -> ExitCode:
    """Build a set from a pool; say what the pool lacks."""
    from core.speech import expand_manifest
    from core.speech.manifest_writer import manifest_line, refuse_to_overwrite, write_manifest

    if args.size < 1:
        raise UserError(f"--size {args.size}: must be 1 or more")
    refuse_to_overwrite(args.output, args.force)
    fields = None if args.stratify is None else [name.strip() for name in args.stratify.split(",") if name.strip()]
    request = expand_manifest.Request(
        pools=args.pool,
        size=args.size,
        seed=args.seed,
        exclude=args.exclude,
        keep=args.keep,
        fields=fields,
        exclude_speakers=args.exclude_speakers,
        exclude_near_texts=args.exclude_near_texts,
        listen=args.listen,
    )
    with progress_bar("listening") as show:
        result = expand_manifest.expand(request, show)
    for sentence in expand_manifest.lacks(request, result):
        print(sanitise(sentence), file=sys.stderr)
    if not result.utterances:
        raise UserError(f"{args.output}: nothing to write: the pool has no usable clip; give more --pool manifests")
    folder = args.output.parent
    count = write_manifest(args.output, (manifest_line(u, folder) for u in result.utterances), args.force)
    print(f"{sanitise(str(args.output))}: {count} clips, {result.kept} of them kept, seed {args.seed}")
    return ExitCode.REJECTED if count < args.size else ExitCode.ACCEPTED


def normalise(args: argparse.Namespace) -> ExitCode:
    """Write what the model hears of a file; say what was done to it."""
    import io

    import soundfile

    from core.runs.files import write_bytes
    from core.speech import audio
    from core.speech.manifest_writer import refuse_to_overwrite
    from core.speech.probe import probe_fingerprint

    if args.output.suffix.lower() != ".wav":
        raise UserError(f"{args.output}: must end in .wav: other formats would round the samples")
    for option, low in (("offset", 0.0), ("duration", 1e-4), ("target_rms", 1e-4)):
        value = getattr(args, option)
        if value is not None and not low <= value <= 1e9:
            raise UserError(f"--{option.replace('_', '-')} {value:g}: must be a number of at least {low:g}")
    refuse_to_overwrite(args.output, args.force)
    clip = audio.decode_clip(args.input, args.offset, args.duration)
    heard = audio.normalise(clip.samples, args.target_rms)
    buffer = io.BytesIO()
    soundfile.write(buffer, heard.samples, audio.SAMPLE_RATE_HZ, subtype="FLOAT", format="WAV")
    write_bytes(args.output, buffer.getvalue())
    seconds = len(heard.samples) / audio.SAMPLE_RATE_HZ
    print(f"{sanitise(str(args.output))}: {seconds:.3f} s, from {clip.rate_hz} Hz, {clip.channels} channels")
    level = "silence (RMS below 1e-4), left as it is" if heard.silent else f"brought to {args.target_rms:g}"
    print(f"RMS {heard.rms_before:.5f}, {level}; {heard.clipped} samples clamped")
    print(f"audio path {audio.audio_fingerprint(args.target_rms)}, proved by {probe_fingerprint(args.target_rms)}")
    return ExitCode.ACCEPTED


def exchange(args: argparse.Namespace) -> ExitCode:
    """Import or export a set; an import must be a manifest that can be read."""
    from core.speech.exchange import export_rows, import_lines
    from core.speech.manifest import read_manifest
    from core.speech.manifest_writer import refuse_to_overwrite, write_manifest

    refuse_to_overwrite(args.output, args.force)
    if args.action == "import":
        lines = list(import_lines(args.kind, args.source, args.output))
        folder = args.output.parent.absolute()
        # a path through a folder that is not there yet leads nowhere
        folder.mkdir(parents=True, exist_ok=True)
        missing = [line["audio_filepath"] for line in lines if not (folder / line["audio_filepath"]).is_file()]
        if missing or not lines:
            what = f"{len(missing)} audio files are not there, {missing[0]} first" if missing else "no clip in it"
            raise UserError(f"{args.source}: {what}: correct it, or bring the audio there")
        count = write_manifest(args.output, lines, args.force)
    else:
        manifest = read_manifest(args.source)
        write_text(args.output, export_rows(args.kind, manifest, args.output.parent))
        count = len(manifest)
    print(f"{sanitise(str(args.output))}: {count} clips")
    return ExitCode.ACCEPTED


def run_manifest(args: argparse.Namespace) -> ExitCode:
    """`lora-cli manifest ACTION`."""
    actions = {"check": check, "expand": expand, "import": exchange, "export": exchange}
    return actions[args.action](args)
