"""`lora-cli`: use an adapter exactly as it was judged."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from core.cli import data_arguments, export_command
from core.command_line import COMPLETION, add_shell, add_version, completion_script, with_suggestion
from core.console import err, out
from core.errors import ExitCode, UserError, exit_code_for, forbidden, is_disk_full
from core.scoring.text import NAMES
from core.scoring.units import Unit
from core.system.process import Interrupts, end_with_parent, wait_without_spinning
from core.terminal import prepare_streams
from core.user_paths import check_working_folder, user_path

_EPILOG = """exit codes: 0 done; 2 interrupted; 3 internal error; 4 bad input or usage (the message says what to change)

Audio takes the trainer's own path (slice, mono, 16 kHz, RMS 0.075, clamp) and text its normaliser; an adapter that was
trained under another normalisation is refused. Audio longer than the model hears is cut at pauses."""


_TRANSCRIBE = """\
Prints what is said in each file: the text alone for one file, FILE<TAB>TEXT for several. What is longer than the model
hears at once, or than --segment-seconds, is cut at silences, and each segment is given with its times.

A file that cannot be used is named in one sentence; the others are transcribed, and the exit code is 4."""


_DOCTOR = """\
Looks at versions, GPU, driver and build of PyTorch, memory, audio formats, disk, locks, session, terminal and PLAN, and
prints a line for each: ok, warning or problem, and what to do. It starts no run and changes nothing.

exit codes: 0 nothing is wrong, or there are warnings only; 4 there is a problem; 2 interrupted"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        err(f"error: {with_suggestion(message, self)}")
        sys.exit(ExitCode.BAD_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lora-cli",
        description="Transcribe and evaluate with a LoRA or DoRA adapter, with the arithmetic of its training; "
        "check and build the manifests that it is trained and judged on.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    transcribe = commands.add_parser(
        "transcribe",
        help="print what is said in audio files",
        description=_TRANSCRIBE,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    transcribe.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="audio in any format of libsndfile, any rate; a pattern in quotes, such as 'talks/**/*.wav'; - is stdin",
    )
    transcribe.add_argument(
        "--format", choices=("text", "json", "srt", "vtt"), default="text", help="default: %(default)s"
    )
    transcribe.add_argument(
        "-o", "--output", metavar="PATH", help="a file, or for several transcripts a folder; default: stdout"
    )
    transcribe.add_argument(
        "--beside", action="store_true", help="write each transcript beside its audio: talk.wav, talk.srt"
    )
    transcribe.add_argument("--force", action="store_true", help="replace transcripts that exist")
    transcribe.add_argument(
        "--segment-seconds",
        type=float,
        metavar="S",
        help="cut at silences into segments of at most so many seconds; default: 8 for subtitles, else what the model "
        "hears at once",
    )
    transcribe.add_argument(
        "--channel", type=int, metavar="N", help="the one to hear, 0 is the first; default: the mean"
    )
    transcribe.add_argument("--json", action="store_true", help="the same as --format json")
    evaluate = commands.add_parser(
        "evaluate",
        help="word or character error rate on a manifest",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.add_argument("manifest", type=user_path, help="JSON Lines with audio_filepath and text")
    evaluate.add_argument("--part", metavar="K/N", help="score part K of N of a reserve (docs/verdict.md)")
    evaluate.add_argument(
        "--base", action="store_true", help="score the base model, decoded as the adapter is: for a reserve"
    )
    evaluate.add_argument(
        "--json", type=user_path, metavar="FILE", help="write the score, utterance by utterance; - is stdout"
    )
    evaluate.add_argument(
        "--singly", type=int, default=0, metavar="N", help="decode N clips one by one too and compare"
    )
    evaluate.add_argument(
        "--dataset", default="", metavar="NAME", help="name of the set in the score (domain, heldout)"
    )
    evaluate.add_argument(
        "--unit",
        choices=tuple(unit.value for unit in Unit),
        default=Unit.WORD.value,
        help="what is counted: words (WER), characters (CER; scripts without spaces), or mixed (MER: characters of "
        "such scripts and words elsewhere); default: word",
    )
    evaluate.add_argument(
        "--every-normaliser", action="store_true", help="print the rate under each text normaliser, too: a table"
    )
    for command in (transcribe, evaluate):
        command.add_argument("--model", help="folder in hub format or hub id; default: the one the adapter names")
        command.add_argument("--revision", help="revision of a hub id")
        command.add_argument("--language", metavar="CODE", help="what is spoken, such as de; default: the adapter's")
        command.add_argument("--task", help="transcribe or translate, for models that do both; default: the adapter's")
        command.add_argument("--adapter", type=user_path, help="adapter folder, e.g. runs/…/lora_adapter_best")
        command.add_argument(
            "--normaliser",
            choices=NAMES,
            help="text normaliser; default: the adapter's, or basic",
        )
        command.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="default: the adapter's, or fp32")
        command.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: the adapter's, or all")
        command.add_argument(
            "--batch-seconds",
            type=float,
            metavar="S",
            help="seconds of the encoder's input a batch; default: the adapter's, or 120",
        )
        command.add_argument(
            "--beams",
            type=int,
            metavar="N",
            help="hypotheses of the beam search; default: the adapter's, or 1, which is greedy",
        )
        command.add_argument(
            "--audio-context",
            type=float,
            metavar="S",
            help="of Whisper: seconds heard after a clip; default: the adapter's, or its whole window of 30",
        )
        command.add_argument(
            "--tokens-per-second",
            type=float,
            metavar="R",
            help="cap of the transcript's length; default: the model's own, which no speech reaches",
        )
    export_command.add(commands)
    export_command.add_hear(commands)
    data_arguments.add_manifest(commands)
    data_arguments.add_errors(commands)
    data_arguments.add_normalise(commands)
    _add_doctor(commands)
    add_shell(
        commands.add_parser(
            "completion",
            help="a script that completes all this in bash, zsh, fish or tcsh",
            description=COMPLETION.format(prog="lora-cli"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    return parser


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="what of this machine, this session and a plan would make runs fail",
        description=_DOCTOR,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument("plan", nargs="?", type=user_path, metavar="PLAN", help="checked, too, and its forecasts used")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.add_argument("--runs", default="runs", metavar="DIR", help="the runs folder; default: ./%(default)s")
    doctor.add_argument("--state", metavar="DIR", help="the state folder, where locks lie")


def _print_completion(args: argparse.Namespace) -> ExitCode:
    out(completion_script(_parser(), args.shell), multiline=True)
    return ExitCode.ACCEPTED


def _command(name: str) -> Callable[[argparse.Namespace], ExitCode]:
    """Imported after the arguments are known to be good: some take seconds to import."""
    if name in ("transcribe", "evaluate"):
        from core.cli import commands, transcribe_command

        return transcribe_command.transcribe if name == "transcribe" else commands.evaluate
    if name == "doctor":
        from core.cli import doctor_command

        return doctor_command.doctor
    if name == "completion":
        return _print_completion
    if name in ("merge", "export", "hear"):
        return {"merge": export_command.merge, "export": export_command.export, "hear": export_command.hear}[name]
    if name == "errors":
        from core.cli import errors_command

        return errors_command.errors
    from core.cli import data_commands

    return data_commands.normalise if name == "normalise" else data_commands.run_manifest


def main(argv: list[str] | None = None) -> int:
    """The entry point `lora-cli`; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    prepare_streams(data="transcribe" in words[:1] and not {"-h", "--help"} & set(words))
    end_with_parent()
    wait_without_spinning()
    with Interrupts() as interrupts:
        try:
            check_working_folder()
            args = _parser().parse_args(argv)
            code = _command(args.command)(args)
            sys.stdout.flush()
            return int(code)
        except BrokenPipeError:
            # a reader that closed the pipe early (`| head`) is no error; the interpreter flushes once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return int(ExitCode.ACCEPTED)
        except (Exception, KeyboardInterrupt) as error:
            # A library that is interrupted while it is imported may call that an error of its own.
            return int(_fail(KeyboardInterrupt() if interrupts.count else error))


def _fail(error: BaseException) -> ExitCode:
    """Say what ended the command; its exit code."""
    error = forbidden(error) or error
    if isinstance(error, UserError):
        text = f"error: {error}"
    elif isinstance(error, KeyboardInterrupt):
        text = "interrupted"
    elif is_disk_full(error):
        text = f"error: the disk is full ({error}); free some space (or set TMPDIR) and run again"
    else:
        text = "internal error:\n" + "".join(traceback.format_exception(error)).rstrip()
    err(text, multiline=True)
    return exit_code_for(error)


if __name__ == "__main__":
    sys.exit(main())
