"""`lora-cli manifest import` and `export`: sets of other tools, and for them. Never imports torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from core.cli.data_commands import write_expansion
from core.cli.progress import Progress, progress_bar
from core.console import out
from core.errors import ExitCode, UserError
from core.system.files import write_text

Item = TypeVar("Item")


def import_set(args: argparse.Namespace) -> ExitCode:
    """Make a manifest of another tool's set, whole or a fair sample of it; it must be one that can be read."""
    from core.manifests.array_import import importing
    from core.manifests.exchange import import_lines
    from core.manifests.writing import refuse_to_overwrite

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
    from core.manifests.writing import write_manifest

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
    from core.manifests.manifest import read_manifest
    from core.manifests.writing import refuse_to_overwrite

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
