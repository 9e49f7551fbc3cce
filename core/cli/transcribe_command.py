"""What `lora-cli transcribe` does: many recordings with one model, each with its own failure."""

from __future__ import annotations

import argparse
import contextlib
import glob
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.audio.samples import SAMPLE_RATE_HZ, SILENCE_RMS, cut_at_pauses, header_seconds, read_clip, root_mean_square
from core.audio.silences import cut_at_silences, speech_ranges, within_speech
from core.audio.sound_file import Samples
from core.cli.commands import Loaded, load
from core.cli.transcripts import ENDINGS, FORMATS, SUBTITLES, TimedText, Transcript
from core.console import Progress, err, out, progress_bar
from core.errors import AudioError, ExitCode, UserError, forbidden, is_disk_full
from core.sanitise import sanitise
from core.system.files import write_text
from core.user_paths import user_path

if TYPE_CHECKING:
    from core.training.evaluation import Segment

SUBTITLE_SECONDS = 8.0
"""The longest segment of subtitles where `--segment-seconds` says nothing: about two lines that can be read in time."""
GROUP_S = 600.0
"""Seconds of audio that are read and decoded together: short recordings share batches, long ones come one by one."""
STDIN = "-"
_PATTERN = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Recording:
    """One to transcribe."""

    name: str
    """As it was asked for."""
    path: Path
    seconds: float
    """By its header."""
    target: Path | None
    """Where its transcript goes; None: stdout."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """A recording that was read."""

    recording: Recording
    samples: Samples


def transcribe(args: argparse.Namespace) -> ExitCode:
    """Transcribe each file as it was asked for. Exit code 4: not all of them, and stderr says why."""
    kind = "json" if args.json else args.format
    longest = _segment_seconds(args, kind)
    with _stdin_file(args.files) as spooled:
        recordings, problems = recordings_of(args, kind, spooled)
        for problem in problems:
            err(f"error: {problem}")
        failed = len(problems)
        if recordings:
            loaded = load(args)
            failed += _transcribe_all(args, recordings, loaded, kind, longest)
    return ExitCode.BAD_USAGE if failed else ExitCode.ACCEPTED


def recordings_of(args: argparse.Namespace, kind: str, spooled: Path | None) -> tuple[list[Recording], list[str]]:
    """What is to be transcribed, and what is wrong with the others. UserError: the command makes no sense."""
    named, problems = _named_files(args.files, spooled)
    many = len(named) + len(problems) > 1 or any(_PATTERN & set(name) for name in args.files)
    if kind in SUBTITLES and many and args.output is None and not args.beside:
        raise UserError(
            f"--format {kind}: subtitles of several files are several files: name a folder with -o, or give --beside"
        )
    if args.beside and (args.output is not None or STDIN in args.files):
        raise UserError("--beside: writes beside each audio file: leave out -o, and - for stdin")
    output = None if args.output is None else user_path(args.output)
    into = output if output is not None and (many or output.is_dir() or args.output.endswith("/")) else None
    if into is not None and os.path.lexists(into) and not into.is_dir():
        raise UserError(f"-o {into}: is no folder, and the transcripts of several files need one")
    recordings: list[Recording] = []
    takers: dict[Path, str] = {}
    for name, path in named:
        target = output
        if args.beside or into is not None:
            ending = ("stdin" if name == STDIN else path.stem) + ENDINGS[kind]
            target = (path.parent if into is None else into) / ending
        if target is not None and target in takers:
            raise UserError(f"{target}: is where the transcripts of {takers[target]} and {name} would both go")
        try:
            seconds = _length(name, path)
        except (UserError, OSError) as error:
            problems.append(str(_problem(name, path, error)))
            continue
        if target is not None:
            takers[target] = name
            if target.is_dir():
                problems.append(f"{target}: is a folder, where the transcript of {name} would be: move it away")
                continue
            if target.is_file() and (not args.force or target.resolve() == path.resolve()):
                problems.append(f"{target}: exists already: move it away, or replace it with --force")
                continue
        recordings.append(Recording(name, path, seconds, target))
    return recordings, problems


def _segment_seconds(args: argparse.Namespace, kind: str) -> float:
    """The longest segment that is asked for; infinite: what the model hears."""
    asked: float | None = args.segment_seconds
    if asked is None:
        return SUBTITLE_SECONDS if kind in SUBTITLES else math.inf
    if not 1 <= asked < math.inf:
        raise UserError(f"--segment-seconds {asked:g}: must be a number of seconds, 1 or more")
    return asked


def _named_files(names: Sequence[str], spooled: Path | None) -> tuple[list[tuple[str, Path]], list[str]]:
    """(name, file) of each file that is meant, patterns resolved, each once; and what cannot be meant."""
    found: dict[str, Path] = {}
    problems: list[str] = []
    for name in names:
        if name == STDIN:
            found[name] = spooled or Path(name)
            continue
        try:
            path = user_path(name)
        except UserError as error:
            problems.append(str(error))
            continue
        if _PATTERN & set(name) and not os.path.lexists(path):
            # Path.glob takes no absolute patterns
            matches = sorted(m for m in glob.glob(str(path), recursive=True) if not Path(m).is_dir())  # noqa: PTH207
            found |= {match: Path(match) for match in matches}
            if not matches:
                problems.append(f"{name}: no file is named so: correct the pattern")
        else:
            found[name] = path
    return list(found.items()), problems


@contextlib.contextmanager
def _stdin_file(names: Sequence[str]) -> Generator[Path | None, None, None]:
    """All of stdin as a file, where `-` is among the names: sound files are not read from their beginning on only."""
    if STDIN not in names:
        yield None
        return
    if sys.stdin.isatty():
        raise UserError("-: stdin is a terminal: pipe a sound file into the command")
    with tempfile.TemporaryDirectory(prefix="lora-cli-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


def _transcribe_all(
    args: argparse.Namespace, recordings: Sequence[Recording], loaded: Loaded, kind: str, longest: float
) -> int:
    """How many failed. The transcripts come in the order of the recordings, each as soon as it is there."""
    failed = done = 0
    alone = len(recordings) == 1 and len(args.files) == 1
    for group in _groups(recordings, args.channel):
        heard = [one for one in group if isinstance(one, _Heard)]
        with progress_bar(_shown_progress(heard, done, len(recordings)), lines=True) as progress:
            transcripts = iter(_transcripts(heard, loaded, longest, progress))
        for one in group:
            done += 1
            try:
                if not isinstance(one, _Heard):
                    raise one
                transcript = next(transcripts)
                if transcript.silent:
                    err(f"warning: {transcript.name}: silence (RMS below 1e-4), left as it is")
                _give(one.recording, transcript, kind, alone=alone)
            except UserError as problem:
                err(f"error: {problem}")
                failed += 1
    return failed


def _shown_progress(heard: Sequence[_Heard], done: int, of: int) -> str:
    name = heard[0].recording.name if len(heard) == 1 else f"{len(heard)} files"
    return sanitise(name, 60) + (f" ({done + 1} of {of})" if of > 1 else "")


def _groups(recordings: Sequence[Recording], channel: int | None) -> Iterator[list[_Heard | UserError]]:
    """Recordings that are decoded together, read; those that cannot be read are their errors."""
    group: list[_Heard | UserError] = []
    seconds = 0.0
    for recording in recordings:
        if group and seconds + recording.seconds > GROUP_S:
            yield group
            group, seconds = [], 0.0
        seconds += recording.seconds
        try:
            group.append(_Heard(recording, read_clip(recording.path, channel=channel)))
        except (UserError, OSError) as error:
            group.append(_problem(recording.name, recording.path, error))
    if group:
        yield group


def _length(name: str, path: Path) -> float:
    """Seconds, by the file's header."""
    if path.is_dir():
        inside = "'" + os.path.join(name, "*.wav") + "'"  # noqa: PTH118 - as it was written
        raise AudioError(f"{name}: is a folder: name its files, as in {inside}")
    return header_seconds(path)


def _problem(name: str, path: Path, error: UserError | OSError) -> UserError:
    """One sentence on a file that cannot be used."""
    if isinstance(error, OSError):
        if is_disk_full(error):
            raise error
        error = forbidden(error) or UserError(f"{name}: cannot be read ({error.strerror or error})")
    return UserError(str(error).replace(str(path), "stdin")) if name == STDIN else error


def _transcripts(heard: Sequence[_Heard], loaded: Loaded, longest: float, progress: Progress) -> list[Transcript]:
    from core.training.evaluation import Decoder

    clips = [one.samples for one in heard]
    decoder = Decoder(loaded.speech, target_rms=loaded.target_rms, batch_seconds=loaded.batch_seconds)
    *_, cut = decoder.run(
        [len(clip) for clip in clips],
        lambda i: clips[i],
        progress=progress,
        cut=cut_at_pauses if longest == math.inf else cut_at_silences,
        max_seconds=longest,
    )
    return [
        Transcript(
            one.recording.name,
            len(clip) / SAMPLE_RATE_HZ,
            _timed(clip, segments),
            index in cut,
            root_mean_square(clip) < SILENCE_RMS,
        )
        for index, (one, clip, segments) in enumerate(zip(heard, clips, decoder.segments, strict=True))
    ]


def _timed(clip: Samples, segments: Sequence[Segment]) -> tuple[TimedText, ...]:
    """Segments with the times of the speech in them: what is decoded at once may begin and end with silence."""
    speech = speech_ranges(clip)
    found = []
    for segment in segments:
        start, stop = within_speech((segment.start, segment.stop), speech)
        found.append(TimedText(start / SAMPLE_RATE_HZ, stop / SAMPLE_RATE_HZ, segment.text))
    return tuple(found)


def _give(recording: Recording, transcript: Transcript, kind: str, *, alone: bool) -> None:
    """Print the transcript, or write it where it goes."""
    text = FORMATS[kind](transcript)
    if recording.target is None:
        if kind == "text" and not alone:
            text = "".join(f"{sanitise(transcript.name)}\t{line}\n" for line in text.splitlines() or [""])
        if text:
            out(text, multiline=True)
        return
    try:
        recording.target.parent.mkdir(parents=True, exist_ok=True)
        write_text(recording.target, text)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(f"{recording.target}: cannot be written ({error.strerror}); name another place") from error
