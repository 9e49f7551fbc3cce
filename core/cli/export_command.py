"""`lora-cli merge` and `lora-cli export`: thin over `core.export`."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import msgspec

from core.console import document, err, out
from core.errors import ExitCode, UserError, is_disk_full
from core.plan.exports import BFLOAT16, FLOAT16, FLOAT32, FORMS, Target, form_of
from core.user_paths import user_path

if TYPE_CHECKING:
    from core.export.source import Source

DTYPES = {"fp32": FLOAT32, "bf16": BFLOAT16, "fp16": FLOAT16}
QUANTISE = ("int8", "float16", "bfloat16")
EPILOG = """exit codes: 0 done; 1 the folder is there, and its runtime loses the domain gain or breaks the guardrail
that the adapter kept, or a transcript changed though it is the adapter merged in fp32; 2 interrupted, nothing is there;
3 internal error; 4 bad input, a form that cannot hold the model, a missing package or no space, and nothing is there;
6 the folder is there, but could not be judged (the message says why)"""


_HEAR = """\
Decodes the evaluation sets of a run again from DIR, in its own runtime, and compares the transcripts with those of the
run folder. DIR is known by the hashes of its files. `lora-tui verify RUN_DIR --serve DIR` does this, too.

exit codes: 0 the same; 1 DIR is no export of the run, or says something else in the same runtime; 2 interrupted;
4 bad input, or a missing package; 6 it says something else in another version, device or precision of the runtime"""


def add(commands: Any) -> None:
    """The parsers of both commands."""
    merge = commands.add_parser(
        "merge",
        help="write a plain model folder with the adapter merged in, and check that it says the same",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    merge.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="of the weights; default: fp32")
    export = commands.add_parser(
        "export",
        help="write a judged adapter in the form in which it is served, and judge that",
        epilog="\n".join(f"  {form.name:<6}{form.what}" for form in FORMS) + f"\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("--to", required=True, choices=tuple(form.name for form in FORMS), help="the form, see below")
    export.add_argument("--quantise", choices=QUANTISE, help="precision of the weights; default: float32")
    export.add_argument(
        "--largest-error",
        type=float,
        metavar="SHARE",
        help="of --to lora: what may be left out of a DoRA's update of a layer; default: 0.05. More gives lower ranks",
    )
    for command in (merge, export):
        command.add_argument("source", type=user_path, metavar="RUN_DIR", help="a run folder, or an adapter folder")
        command.add_argument(
            "-o",
            dest="folder",
            type=user_path,
            required=True,
            metavar="DIR",
            help="the folder to write; not there yet",
        )
        command.add_argument("--model", help="folder in hub format or hub id of the base model; default: the adapter's")
        command.add_argument("--json", action="store_true", help="print what was found as a JSON object")


def add_hear(commands: Any) -> None:
    """The parser of `hear`."""
    hear = commands.add_parser(
        "hear",
        help="decode the sets of a run again from an export of it, and compare with what was judged",
        description=_HEAR,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hear.add_argument("source", type=user_path, metavar="RUN_DIR", help="a run folder")
    hear.add_argument("folder", type=user_path, metavar="DIR", help="the export, wherever it lies now")
    hear.add_argument("--model", help="folder in hub format or hub id of the base model; default: the adapter's")
    hear.add_argument("--json", action="store_true", help="print what was found as a JSON object")


def hear(args: argparse.Namespace) -> ExitCode:
    """Whether the export is the run's, and says what its runtime said."""
    from core.export.exporting import hear_again
    from core.export.source import source_of

    found = hear_again(source_of(args.source, args.model), args.folder)
    if args.json:
        document(asdict(found))
    else:
        if found.found:
            out(found.found)
        for problem in found.problems:
            err(f"problem: {problem}")
        for note in found.unchecked:
            err(f"note: {note}")
    if found.problems:
        return ExitCode.REJECTED
    return ExitCode.UNDECIDED if found.unchecked else ExitCode.ACCEPTED


def _conversion(said: dict[str, Any]) -> str:
    """`, truncated SVD, ranks 12 to 96, leaves out at most 4.9 % of a layer's update`, or less."""
    parts = [str(said[key]) for key in ("converter", "method") if key in said]
    if "ranks" in said:
        low, high = said["ranks"]
        parts.append(f"rank {high}" if low == high else f"ranks {low} to {high}")
    if said.get("largest_error"):
        parts.append(f"leaves out at most {100 * said['largest_error']:.1f} % of a layer's update")
    return "".join(f", {part}" for part in parts)


def merge(args: argparse.Namespace) -> ExitCode:
    """Merge, and compare."""
    form = form_of("hf")
    assert form is not None  # noqa: S101 - a line of that table
    return _run(args, Target(form, DTYPES[args.dtype]))


def export(args: argparse.Namespace) -> ExitCode:
    """Convert, and judge."""
    form = form_of(args.to)
    if form is None:
        raise UserError(f"--to {args.to}: no such form")
    if form.unmade is not None:
        raise UserError(f"--to {form.name}: {form.unmade}")
    precision = args.quantise or form.precisions[0]
    if precision not in form.precisions:
        has = ", ".join(form.precisions)
        raise UserError(f"--quantise {precision}: {form.name} has no such weights (it has {has}): take one of those")
    share = args.largest_error
    if share is None:
        return _run(args, Target(form, precision))
    if form.name != "lora" or not 0 < share < 1:
        raise UserError(f"--largest-error {share}: must be above 0 and below 1, and goes with --to lora alone")
    return _run(args, Target(form, precision), largest_error=share)


def _run(args: argparse.Namespace, target: Target, **options: Any) -> ExitCode:
    from core.export.exporting import check
    from core.export.exporting import export as write
    from core.export.source import source_of
    from core.scoring.served import sentence

    source = source_of(args.source, args.model)
    check(source, target, args.folder)
    try:
        found = write(source, target, args.folder, **options)
    except OSError as error:
        if is_disk_full(error):
            raise UserError(
                f"-o {args.folder}: the disk is full ({error}): nothing was left there; free some space (or set TMPDIR)"
            ) from error
        raise
    if args.json:
        document(
            {
                "target": str(target),
                "folder": str(found.folder),
                "conversion": found.conversion,
                "runtime": None if found.runtime is None else msgspec.to_builtins(found.runtime),
                "sets": {name: asdict(one) for name, one in found.differences.items()},
                "unjudged": found.unjudged or None,
                "export": None if found.document is None else str(found.document),
            }
        )
    else:
        out(f"{found.folder}: {target}{_conversion(found.conversion)}")
        if found.runtime is not None:
            runtime = found.runtime
            out(f"heard by {runtime.name} {runtime.version} on {runtime.device} in {runtime.precision}")
        for name, one in found.differences.items():
            out(sentence(name, one, source.scores[name].unit.rate))
        if found.document is not None:
            out(f"written down in {found.document}")
    if found.unjudged:
        err(f"note: not judged: {found.unjudged}")
        return ExitCode.UNDECIDED
    if target.form.name == "hf" and target.precision == FLOAT32 and found.changed:
        err(f"error: transcripts that differ from the judged ones: {found.changed}; do not ship this folder")
        return ExitCode.REJECTED
    return _holds(source, target)


def _holds(source: Source, target: Target) -> ExitCode:
    """Whether what the adapter passed holds in the runtime, by the gate that the run was submitted with."""
    from core.runs.judged import judged
    from core.runs.store import read_run
    from core.scoring.evidence import State

    if source.run is None:
        return ExitCode.ACCEPTED
    thresholds = replace(source.run.thresholds, runtime=str(target))
    verdict = judged(read_run(source.run.snapshot.paths), thresholds).verdict
    served = verdict.criterion("runtime")
    err(f"{served.state.value}  {served.title}: {served.reason}")
    passed = all(verdict.criterion(name).state is State.PASS for name in ("domain_gain", "heldout"))
    return ExitCode.REJECTED if passed and served.state is State.FAIL else ExitCode.ACCEPTED
