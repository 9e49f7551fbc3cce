"""Builds the embedded speech corpus: `python -m core.corpus [--sets train,replay,domain,heldout]`.

The same recipe, texts and seed give the same bytes on one machine, whatever the number of workers and the order.
A set is built beside its old version and swapped in when it is complete.
"""

from __future__ import annotations

import argparse
import hashlib
import io
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

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from core.console import err
from core.corpus.recipe import Recipe, Utterance, plan_corpus, read_recipe
from core.corpus.synth import Synthesiser
from core.errors import ExitCode, UserError, exit_code_for
from core.system.files import write_bytes
from core.system.locks import KernelLock
from core.system.process import Interrupts, die_with, usable_cpus
from core.user_paths import user_path

# One utterance of the embedded speech: spoken, mixed with seeded noise at a signal-to-noise ratio, written as FLAC

Samples = npt.NDArray[np.float64]

LOWEST_HZ = 20.0
MAINS_HZ = (50.0, 60.0)
HUM_HARMONICS = 6
BABBLE_TALKERS = 3
SYLLABLES_HZ = 6.0
"""How often the loudness of a far talker changes."""


def mix(speech: Samples, speech_rms: float, snr_db: float, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """`speech` with noise `snr_db` below `speech_rms` (the level of its spoken part)."""
    return speech + noise(len(speech), sample_rate_hz, rng) * speech_rms * 10 ** (-snr_db / 20)


def noise(samples: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """White noise, pink noise, mains hum and babble in random shares; shape `(samples,)`, RMS 1."""
    hz = _frequencies(samples, sample_rate_hz)
    kinds = (
        _shaped(np.ones_like(hz), samples, rng),
        _shaped(1 / np.sqrt(hz), samples, rng),
        _hum(samples, sample_rate_hz, rng),
        _babble(hz, samples, sample_rate_hz, rng),
    )
    mixture = np.zeros(samples)
    for share, kind in zip(rng.dirichlet(np.ones(len(kinds))), kinds, strict=True):
        mixture += np.sqrt(share) / rms(kind) * kind
    return mixture / rms(mixture)


def rms(samples: Samples) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples))))


def _frequencies(samples: int, sample_rate_hz: int) -> Samples:
    """Of a spectrum long enough for `samples`: a power of two, since a prime length makes the FFT 20 times slower."""
    length = 1 << max(samples - 1, 1).bit_length()
    return np.asarray(np.maximum(np.fft.rfftfreq(length, 1 / sample_rate_hz), LOWEST_HZ))


def _shaped(gain: Samples, samples: int, rng: np.random.Generator) -> Samples:
    """Gaussian noise with the amplitude spectrum `gain`."""
    spectrum = rng.standard_normal((2, len(gain)))
    return np.asarray(np.fft.irfft(gain * (spectrum[0] + 1j * spectrum[1]))[:samples])


def _hum(samples: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    phase = 2 * np.pi * float(rng.choice(MAINS_HZ)) / sample_rate_hz * np.arange(samples)
    turn = np.exp(1j * phase)
    wave, total = turn, np.zeros(samples)
    for harmonic in range(1, HUM_HARMONICS + 1):
        start = np.exp(2j * np.pi * rng.uniform())
        total += rng.uniform(0.2, 1.0) / harmonic * (wave * start).imag
        wave = wave * turn
    return total


def _babble(hz: Samples, samples: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Far talkers without words: noise with the long-term spectrum of speech, its loudness moving like syllables."""
    speech_like = 1 / (1 + (hz / 500) ** 2)
    total = np.zeros(samples)
    knots = np.arange(0, samples + sample_rate_hz, sample_rate_hz / SYLLABLES_HZ)
    for _ in range(BABBLE_TALKERS):
        loudness = np.interp(np.arange(samples), knots, rng.exponential(size=len(knots)))
        total += loudness * _shaped(speech_like, samples, rng)
    return total


SAMPLE_RATE_HZ = 16_000
SILENCE_RATIO = 0.01
"""Samples below this share of the peak count as silence at the ends of what espeak-ng gives."""
PAUSE_S = (0.05, 0.25)
"""Silence put before and after the speech."""
MAX_PEAK = 0.99
"""Where a clip's level would take it beyond, the whole clip is softer."""


def render(utterance: Utterance, synthesiser: Synthesiser) -> Samples:
    """The samples of one utterance at 16 kHz, shape `(samples,)`, within ±1."""
    raw = synthesiser.speak(utterance.text, utterance.speaker, utterance.prosody).astype(np.float64) / 32768
    loud = np.flatnonzero(np.abs(raw) > SILENCE_RATIO * np.max(np.abs(raw)))
    if loud.size == 0:
        raise UserError(f'{utterance.id}: the voice "{utterance.speaker}" is silent: leave it out of the recipe')
    speech = soxr.resample(raw[loud[0] : loud[-1] + 1], synthesiser.sample_rate_hz, SAMPLE_RATE_HZ)
    rng = np.random.default_rng(utterance.seed)
    before, after = (round(rng.uniform(*PAUSE_S) * SAMPLE_RATE_HZ) for _ in range(2))
    mixed = mix(np.pad(speech, (before, after)), rms(speech), utterance.snr_db, SAMPLE_RATE_HZ, rng)
    if utterance.band_hz is not None:
        mixed = _band_passed(mixed, *utterance.band_hz)
    levelled = mixed * (utterance.level_rms / rms(mixed))
    return np.asarray(levelled * min(1.0, MAX_PEAK / float(np.max(np.abs(levelled)))))


def _band_passed(samples: Samples, low_hz: float, high_hz: float) -> Samples:
    """`samples` through a band-pass of the fourth order on either side, without phase shift."""
    frequency = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ), 1.0)
    gain = (1 - 1 / (1 + (frequency / low_hz) ** 8)) / (1 + (frequency / high_hz) ** 8)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) * gain, len(samples)))


def write_flac(path: Path, samples: Samples) -> None:
    """`samples` as 16-bit FLAC. A full disk raises OSError, which libsndfile alone would hide."""
    encoded = io.BytesIO()
    pcm = np.round(samples * 32767).astype(np.int16)
    soundfile.write(encoded, pcm, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC")
    path.write_bytes(encoded.getvalue())


# The sets

BUILDER_VERSION = 1
"""Raise it when the same plan gives other bytes: every set is then built anew."""
CHUNK = 16
"""Utterances that a worker takes at a time."""


def build_corpus(
    recipe: Recipe, out: Path, names: Sequence[str], jobs: int = 2, force: bool = False, more: bool = False
) -> list[str]:
    """Builds the sets `names` under `out`, with `more` at their larger size; returns those that were not there yet."""
    plan = plan_corpus(recipe, more)
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
    """Worker processes that are single-threaded (they fork), end with this one and import nothing from where it is."""
    environment = dict(os.environ)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONSAFEPATH="1")
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
    parser.add_argument(
        "--more", action="store_true", help="larger sets, and those to choose on; give them an --out of their own"
    )
    parser.add_argument("--force", action="store_true", help="build even what is there already")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(ExitCode.BAD_USAGE) if stop.code else 0
    try:
        if options.jobs < 1:
            raise UserError(f"--jobs must be 1 or more, not {options.jobs}")
        recipe = read_recipe(options.recipe)
        names = _chosen_sets(recipe, options.sets, options.more)
        with Interrupts():
            built = build_corpus(recipe, options.out, names, options.jobs, options.force, options.more)
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


def usual_sets(recipe: Recipe, more: bool = False) -> list[str]:
    """The names of the sets that are made without being asked for."""
    return [one.name for one in recipe.sets.values() if not one.on_request and (one.count or more)]


def _chosen_sets(recipe: Recipe, wanted: str | None, more: bool) -> list[str]:
    if wanted is None:
        return usual_sets(recipe, more)
    names = list(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    for name in names:
        if name not in recipe.sets:
            raise UserError(f'--sets: {recipe.path} has no set "{name}"; it has {", ".join(recipe.sets)}')
        if not (recipe.sets[name].count or more):
            raise UserError(f"--sets: all of {name} is beyond its count: give --more")
    return names
