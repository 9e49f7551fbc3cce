"""The arguments of `lora-cli manifest …` and the other commands that need no model. Imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import Any

from core.manifests import IMPORT_KINDS
from core.scoring.data_health import SETS
from core.user_paths import user_path

_CHECK_EPILOG = """exit codes: 0 nothing blocks a verdict (there may be warnings and notes); 1 a blocking finding;
2 interrupted; 3 internal error; 4 bad usage, or a manifest that cannot be read

blocking: lines, audio or slices that cannot be used; one clip named twice; the same recording (same samples, or
re-encoded, cut, at another level) in training (--train, --replay) and in an evaluation set (--domain, --heldout,
--selection). All else is a warning or a note. docs/data.md explains every kind."""

_RAW = argparse.RawDescriptionHelpFormatter


def add_manifest(commands: Any) -> None:
    """Add `manifest` and its subcommands."""
    manifest = commands.add_parser("manifest", help="check, expand, import and export manifests")
    actions = manifest.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_check(actions)
    _add_expand(actions)
    _add_exchange(actions)


def _add_check(actions: Any) -> None:
    check = actions.add_parser(
        "check",
        help="find what could fool a verdict: damage, duplicates, leakage",
        description="Check manifests line by line and against each other. Give each set its role to find leakage.",
        epilog=_CHECK_EPILOG,
        formatter_class=_RAW,
    )
    check.add_argument("manifests", nargs="*", type=user_path, metavar="M", help="manifests without a role")
    for role in SETS:
        check.add_argument(f"--{role}", type=user_path, action="append", default=[], metavar="M", help=f"a {role} set")
    check.add_argument("--no-audio", action="store_true", help="look at lines and texts only; decode nothing")
    check.add_argument(
        "--model", type=user_path, metavar="DIR", help="model folder: also check texts against its tokenizer"
    )
    check.add_argument(
        "--report", type=user_path, metavar="FILE", help="write every finding, one a line, tab-separated"
    )
    check.add_argument("--json", action="store_true", help="print everything as JSON")
    check.add_argument("--workers", type=int, metavar="N", help="processes that decode; default: one a core")
    check.add_argument(
        "--run",
        type=user_path,
        metavar="RUN_DIR",
        help="audit the data of a run instead and keep the result in its folder, for its verdict (exit code 1: a leak)",
    )


_EXPAND_EPILOG = """Never in the result: files (or overlapping slices), copies of files, texts and speakers of the
--exclude sets; --exclude-near-texts and --listen (the same recording, re-encoded, cut or at another level) leave out
more.
For an evaluation set, exclude the training sets; for a training set, exclude every evaluation set.
Strata get the share that they have in the pool; every contiguous part of the result is a fair sample of them.
The same pool, sets, size and seed give the same set.

exit codes: 0 written; 1 written, but the pool lacks clips (what it lacks is said); 2 interrupted, nothing written;
3 internal error; 4 bad input or usage"""


def _add_expand(actions: Any) -> None:
    expand = actions.add_parser(
        "expand",
        help="build an evaluation or training set from a pool, without what other sets have",
        description="Choose utterances from a pool: stratified, shuffled, without leakage, reproducible.",
        epilog=_EXPAND_EPILOG,
        formatter_class=_RAW,
    )
    expand.add_argument(
        "--pool", nargs="+", type=user_path, required=True, metavar="P", help="manifests to choose from"
    )
    expand.add_argument("--size", type=int, default=500, metavar="N", help="utterances in the result; default: 500")
    expand.add_argument("--seed", type=int, default=0, metavar="S", help="of the choice; default: 0")
    expand.add_argument("--exclude", nargs="+", type=user_path, default=[], metavar="M", help="sets to have nothing of")
    expand.add_argument("--keep", type=user_path, metavar="M", help="an earlier set that stays inside the new one")
    expand.add_argument(
        "--stratify", metavar="FIELDS", help="speaker, duration or any field, with commas; default: duration,speaker"
    )
    expand.add_argument("--shared-speakers", action="store_true", help="let the speakers of --exclude sets in")
    expand.add_argument("--exclude-near-texts", action="store_true", help="leave out nearly the same texts, too")
    expand.add_argument("--listen", action="store_true", help="decode all audio; leave out the same recordings")
    expand.add_argument("-o", "--output", type=user_path, required=True, metavar="OUT", help="the manifest to write")
    expand.add_argument("--force", action="store_true", help="replace OUT if it exists")


def add_errors(commands: Any) -> None:
    """Add `errors`."""
    errors = commands.add_parser(
        "errors",
        help="words and clips that a run's adapter broke or never learnt",
        description="Compare the base model's transcripts with the adapter's, from the run folder; no model is loaded. "
        "Also says whether the set's error rate depends on the order of its manifest (a lucky average).",
        epilog="exit codes: 0 done; 2 interrupted; 3 internal error; 4 no such scores, or bad usage",
        formatter_class=_RAW,
    )
    errors.add_argument("run", type=user_path, metavar="RUN_DIR", help="a run folder")
    errors.add_argument(
        "--dataset", default="domain", metavar="NAME", help="domain, heldout or a selection set; default: domain"
    )
    errors.add_argument("--limit", type=int, default=10, metavar="N", help="words to print of each kind; default: 10")
    errors.add_argument("--json", action="store_true", help="print everything as JSON")
    errors.add_argument(
        "-o", "--output", type=user_path, metavar="OUT", help="write these clips as a manifest, worst first"
    )
    errors.add_argument("--force", action="store_true", help="replace OUT if it exists")


def add_normalise(commands: Any) -> None:
    """Add `normalise`."""
    normalise = commands.add_parser(
        "normalise",
        help="write what the model hears",
        description="Take a sound file through the audio path of training: slice, mono, 16 kHz, RMS, clamp.",
        epilog="exit codes: 0 written; 2 interrupted; 3 internal error; 4 bad input or usage",
        formatter_class=_RAW,
    )
    normalise.add_argument("input", type=user_path, metavar="IN", help="audio in any format of libsndfile, any rate")
    normalise.add_argument(
        "output", type=user_path, metavar="OUT", help="a .wav file: 16 kHz, mono, 32-bit float, exact"
    )
    normalise.add_argument("--offset", type=float, default=0.0, metavar="S", help="where the clip begins; default: 0")
    normalise.add_argument("--duration", type=float, metavar="S", help="its length; default: to the end")
    normalise.add_argument(
        "--channel", type=int, metavar="N", help="the one to hear, 0 is the first; default: the mean"
    )
    normalise.add_argument("--target-rms", type=float, default=0.075, metavar="R", help="default: 0.075")
    normalise.add_argument("--force", action="store_true", help="replace OUT if it exists")


_EXCHANGE_EPILOG = """exit codes: 0 written; 1 written, but there are fewer clips than --size; 2 interrupted, no
manifest written; 3 internal error; 4 bad input or usage"""


def _add_exchange(actions: Any) -> None:
    reading = actions.add_parser(
        "import",
        help="make a manifest of what other tools write",
        description="nemo: a NeMo manifest. kaldi: a folder of wav.scp, text, segments, utt2spk. ljspeech: a csv "
        "beside wavs/. commonvoice: a tsv beside clips/. audiofolder: a Hugging Face audio folder with metadata.csv or "
        ".jsonl. arrays: JSON Lines with the samples inside, written as WAV files beside OUT. Nothing is guessed: what "
        "a format does not say is refused, with file and line. With --size or --exclude only a fair sample that has "
        "nothing of other sets: general speech for replay in one command.",
        epilog=_EXCHANGE_EPILOG,
    )
    reading.add_argument("kind", choices=IMPORT_KINDS)
    reading.add_argument(
        "source", type=user_path, metavar="SOURCE", help="a file, or the folder of kaldi and audiofolder"
    )
    reading.add_argument(
        "--text-column",
        metavar="C",
        help="the column that holds the text, where it is not the format's: a number from 1 (ljspeech) or a name",
    )
    reading.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="take only N clips, chosen as `expand` does; default: all that are allowed",
    )
    reading.add_argument("--seed", type=int, default=0, metavar="S", help="of the choice; default: 0")
    reading.add_argument(
        "--exclude",
        nargs="+",
        type=user_path,
        default=[],
        metavar="M",
        help="sets to have no audio, text and speaker of",
    )
    reading.add_argument("--shared-speakers", action="store_true", help="let the speakers of --exclude sets in")
    writing = actions.add_parser(
        "export",
        help="write a manifest for other tools",
        description="nemo: JSON Lines with a duration in every line. csv: path, text, offset, duration, speaker.",
        epilog="exit codes: 0 written; 2 interrupted, nothing written; 3 internal error; 4 bad input or usage",
    )
    writing.add_argument("kind", choices=("nemo", "csv"))
    writing.add_argument("source", type=user_path, metavar="M", help="a manifest")
    for command in (reading, writing):
        command.add_argument("-o", "--output", type=user_path, required=True, metavar="OUT", help="the file to write")
        command.add_argument("--force", action="store_true", help="replace OUT if it exists")
