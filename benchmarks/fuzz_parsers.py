"""Fuzzing of everything that reads what others wrote: manifests, imports, sound files, plans.

    PYTHONPATH=. python benchmarks/fuzz_parsers.py [--cases 10000] [--only manifest|audio|toml|import] [--seed S]

Each target gets `--cases` inputs: valid ones with bytes flipped, cut, doubled or spliced, and hostile ones written by
hand (headers that claim 2^31 frames or 60,000 channels, deep nesting, lines of 10 MB, wrong UTF-8, NaN, huge numbers).
A case fails when anything but the program's own error comes out, when it takes more than --limit-s seconds, or when the
process would need more than 2 GiB (RLIMIT_AS). Failing inputs are kept in --keep. About 6 minutes for 4 x 10,000 cases
on a quiet core.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
import soundfile

from core.audio.samples import decode_clip
from core.audit.clip_facts import measure
from core.errors import AudioError, ManifestError, PlanError
from core.manifests import IMPORT_KINDS
from core.manifests.exchange import import_lines
from core.manifests.manifest import good_utterances, read_manifest
from core.manifests.parsing import Problems
from core.plan.read import parse_plan

ROOT = Path(__file__).resolve().parent.parent
MEMORY_BYTES = 2 << 30
INTERESTING = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"NaN", b"Infinity", b"1e999")
INTERESTING += (
    b"9" * 400,
    b"[" * 3000,
    b"{" * 300,
    b'{"a":' * 3000,
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\xef\xbb\xbf",
    b'"""',
    b"''",
)
INTERESTING += (
    b"\r\n",
    b"\n",
    b"\t",
    b'"',
    b"\\",
    b"[[",
    b"]]",
    b"=",
    b"-0",
    b"1_0",
    b"1979-05-27",
    b"inf",
    b"0x",
    "\u202e\u00e9\U0001d11e".encode(),
)


class TooSlow(BaseException):
    """A case ran into its limit. No Exception, so that nothing catches it."""


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """One of `seeds` with one to eight changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 8)):
        at = rng.randint(0, len(data))
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at:at] = rng.choice(INTERESTING)
        elif kind == 2:
            del data[at : at + rng.randint(1, 1 + len(data) // 4)]
        elif kind == 3:
            data = data[:at]
        elif kind == 4:
            end = at + rng.randint(1, 64)
            data[at:at] = data[at:end] * rng.choice((1, 2, 50))
        elif kind == 5:
            other = rng.choice(seeds)
            start = rng.randint(0, len(other))
            data[at:at] = other[start : start + rng.randint(1, 256)]
        else:
            # Header fields stand at the beginning.
            at = rng.randint(0, min(64, len(data)))
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice((0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)))
            data[at : at + size] = (value & ((1 << (8 * size)) - 1)).to_bytes(size, rng.choice(("little", "big")))
    return bytes(data)


def manifest_seeds() -> tuple[list[bytes], list[bytes]]:
    """(to mutate, as they are)."""
    line = {
        "audio_filepath": "a.wav",
        "text": "hello there",
        "duration": 1.5,
        "offset": 0.25,
        "speaker": "ann",
        "snr": 3.5,
    }
    good = json.dumps(line).encode() + b"\n"
    more = (
        json.dumps({"audio": "b/é.flac", "sentence": "naïve – 東京", "speaker": 7}, ensure_ascii=False).encode() + b"\n"
    )
    as_is = [
        b'{"audio":"a.wav","text":"' + b"x" * 10_000_000 + b'"}\n',
        b'{"audio":"' + b"a/" * 5_000_000 + b'","text":"x"}\n',
        b"[" * 1_000_000 + b"\n",
        b'{"a":' * 200_000 + b"\n",
        b'{"audio":"a.wav","text":"x","duration":' + b"9" * 5000 + b"}\n",
        b'{"audio":"a.wav","text":"x","duration":1e400,"offset":-Infinity}\n',
        b'{"audio":"a.wav","text":"x","duration":NaN}\n',
        b'{"audio":"a.wav","text":"x","speaker":' + b"9" * 5000 + b"}\n",
        b'{"audio":"a.wav","text":"\\ud800","extra":' + b"[" * 900 + b"]" * 900 + b"}\n",
        good.decode().encode("utf-16"),
        b"\n" * 1_000_000,
        (good.strip() + b"\r") * 1000,
        b"\0" * 1_000_000,
    ]
    return [good, more, good + more, good * 3, b'{"audio":null,"text":null}\n'], as_is


def fuzz_manifest(data: bytes, folder: Path) -> None:
    """Read it as a run does, and as `check` does."""
    path = folder / "m.jsonl"
    path.write_bytes(data)
    list(good_utterances(path, Problems(path), check_audio=True))
    read_manifest(path, check_audio=False)


def audio_seeds() -> tuple[list[bytes], list[bytes]]:
    """Half a second in every container, and headers that lie."""
    rng = np.random.default_rng(0)
    samples = (np.sin(np.arange(4000) / 7) * 0.3 + rng.standard_normal(4000) * 0.01).astype(np.float32)
    seeds = []
    options: tuple[tuple[str, str, int], ...] = (
        ("WAV", "PCM_16", 1), ("WAV", "FLOAT", 2), ("WAV", "PCM_24", 1), ("WAV", "ULAW", 1), ("WAV", "IMA_ADPCM", 1),
        ("FLAC", "PCM_16", 1), ("OGG", "VORBIS", 1), ("OGG", "OPUS", 1), ("MP3", "MPEG_LAYER_III", 1),
        ("AIFF", "PCM_16", 1), ("AU", "PCM_16", 2), ("CAF", "ALAC_16", 1), ("W64", "PCM_16", 1), ("RF64", "PCM_16", 1),
        ("VOC", "PCM_16", 1), ("NIST", "PCM_16", 1),
    )  # fmt: skip
    for container, subtype, channels in options:
        buffer = io.BytesIO()
        content = samples if channels == 1 else np.stack([samples] * channels, 1)
        soundfile.write(buffer, content, 16_000, format=container, subtype=subtype)
        seeds.append(buffer.getvalue())

    def wav(channels: int, rate: int, bits: int, claimed: int, body: bytes) -> bytes:
        align = max(1, channels * bits // 8)
        head = struct.pack("<HHIIHH", 1, channels, rate, (rate * align) & 0xFFFFFFFF, align & 0xFFFF, bits)
        return (
            b"RIFF"
            + struct.pack("<I", 0xFFFFFFFF)
            + b"WAVEfmt "
            + struct.pack("<I", 16)
            + head
            + b"data"
            + struct.pack("<I", claimed)
            + body
        )

    body = b"\1\2" * 2000
    as_is = [wav(*facts, body) for facts in (
        (1, 16_000, 16, 0x7FFFFFFF), (1, 16_000, 16, 0xFFFFFFFF), (60_000, 16_000, 16, 4000),
        (65_535, 16_000, 8, 0xFFFFFFFF),
        (1024, 16_000, 16, 0xFFFFFF00), (0, 16_000, 16, 4000), (1, 0, 16, 4000), (1, 0xFFFFFFFF, 16, 4000),
        (1, 1, 16, 4000), (1, 16_000, 0, 4000), (1, 16_000, 64, 4000), (1, 999_999, 16, 4000), (2, 16_000, 16, 0),
    )]  # fmt: skip
    flac = bytearray(next(seed for seed in seeds if seed.startswith(b"fLaC")))
    flac[21:26] = b"\x0f\xff\xff\xff\xff"  # total samples: 2^36 - 1
    return seeds, [
        *as_is,
        bytes(flac),
        b"fLaC",
        b"OggS",
        b"ID3" + b"\xff" * 1000,
        b"RIFF\0\0\0\0WAVE",
        b"\xff\xfb" * 50_000,
    ]


def fuzz_audio(data: bytes, folder: Path) -> None:
    """Decode it whole, decode a slice, measure it."""
    path = folder / "clip.wav"
    path.write_bytes(data)
    measure(path)
    for offset_s, duration_s in ((0.0, None), (0.1, 0.1)):
        try:
            clip = decode_clip(path, offset_s, duration_s)
        except AudioError:
            continue
        assert clip.samples.dtype == np.float32 and np.isfinite(clip.samples).all()


def toml_seeds() -> tuple[list[bytes], list[bytes]]:
    """The plan that ships, whole and by table."""
    text = (ROOT / "experiments.toml").read_bytes()
    tables = [b"[" + part for part in text.split(b"\n[") if part.strip()]
    as_is = [
        b"a = " + b"[" * 100_000,
        b"a = " + b"{a=" * 100_000,
        b"a" + b".a" * 100_000 + b" = 1",
        b"[a" + b".a" * 50_000 + b"]\n",
        b'a = "' + b"x" * 10_000_000,
        b"a = " + b"9" * 10_000,
        b"[train]\nsteps = " + b"9" * 5000 + b"\nlearning_rate = nan\n",
        b"[train]\nlearning_rate = inf\nsteps = -0\n",
        b"[[experiment]]\n" * 20_000,
        b'[[experiment]]\nid = "x"\nsweep = {'
        + b"'train.seed' = ["
        + b",".join(str(i).encode() for i in range(20_000))
        + b"]}\n",
        b"[[experiment]]\nid='a'\nwhen='" + b"(" * 20_000 + b"'\n",
        b"[[experiment]]\nid='a'\nwhen='" + b"not " * 20_000 + b"accepted(a)'\n",
        b"#" * 10_000_000,
        b"a = '''\n" * 10_000,
        b'"' + b"\\" * 100_000,
    ]
    return [text, *tables, b"\n".join(tables[:3])], as_is


def fuzz_toml(data: bytes, _folder: Path) -> None:
    """Parse it as a plan, as the command does after decoding."""
    parse_plan(data.decode("utf-8", "replace"), "experiments.toml")


def import_seeds() -> tuple[list[bytes], list[bytes]]:
    """Tables and lines of every kind."""
    seeds = [
        b"client_id\tpath\tsentence\tage\nzoe\tc1.mp3\thello there\ttwenties\n",
        b"LJ001|He said 5|He said five\nLJ002|two|\n",
        b'file_name,transcription\na.wav,"well, yes"\n',
        b'{"file_name": "a.wav", "text": "hi", "speaker": 3}\n',
        b'{"audio": {"array": [0.0, 0.5, -0.25], "sampling_rate": 8000}, "text": "hi"}\n',
        b"u1 rec1 0.5 1.25\nu2 rec1 1.5 2.5\n",
    ]
    as_is = [
        b'a|"' + b"x" * 1_000_000, b"path\tsentence\n" + b"\t" * 1_000_000,
        b'{"audio":{"array":[1e999],"sampling_rate":8000},"text":"x"}',
        b'{"array":[' + b"0," * 200_000 + b'0],"text":"x"}',
        b'{"array":[[[[1]]]],"text":"x"}', b'{"array":[1],"sampling_rate":' + b"9" * 5000 + b',"text":"x"}',
        b'{"array":["x",null],"text":"x"}', b"[" * 1_000_000,
    ]  # fmt: skip
    return seeds, as_is


def fuzz_import(data: bytes, folder: Path) -> None:
    """Read it as each kind of set."""
    path = folder / ("metadata.csv" if data[:4] == b"file" else "set.jsonl")
    for name in ("wav.scp", "text", "segments", "utt2spk"):
        (folder / name).write_bytes(data)
    path.write_bytes(data)
    for kind in IMPORT_KINDS:
        try:
            for _ in import_lines(kind, folder if kind == "kaldi" else path, folder / "out.jsonl"):
                pass
        except ManifestError:
            continue


TARGETS: dict[str, tuple[Callable[[bytes, Path], None], Callable[[], tuple[list[bytes], list[bytes]]]]] = {
    "manifest": (fuzz_manifest, manifest_seeds),
    "audio": (fuzz_audio, audio_seeds),
    "toml": (fuzz_toml, toml_seeds),
    "import": (fuzz_import, import_seeds),
}


def fuzz(name: str, cases: int, seed: int, limit_s: float, keep: Path | None) -> int:
    """Run one target; print its line; the number of failures."""
    target, make = TARGETS[name]
    seeds, as_is = make()
    rng = random.Random(f"{seed} {name}")
    failures, refused, slowest, began = 0, 0, 0.0, time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for case in range(cases):
            data = as_is[case] if case < len(as_is) else mutated(rng, seeds)
            start = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, limit_s)
            problem = ""
            try:
                target(data, Path(scratch))
            except (ManifestError, AudioError, PlanError):
                refused += 1
            except TooSlow:
                problem = f"took more than {limit_s:g} s\n{traceback.format_exc(limit=-6)}"
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                problem = traceback.format_exc(limit=-6)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            slowest = max(slowest, time.monotonic() - start)
            if problem:
                failures += 1
                print(f"{name} case {case}, {len(data)} bytes {data[:60]!r}: {problem}")
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name}-{case}.bin").write_bytes(data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    took = time.monotonic() - began
    print(f"{name:<10}{cases:>8}{refused:>9}{failures:>10}{slowest:>11.2f}{took:>8.0f}{peak:>10}", flush=True)
    return failures


def main() -> int:
    """Fuzz the targets one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--only", choices=TARGETS, action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-s", type=float, default=20.0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write failing inputs here")
    args = parser.parse_args()
    faulthandler.enable()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # libmpg123 writes its notes on broken streams straight to the descriptor.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    print("target       cases  refused  failures  slowest s  took s  peak MiB")
    failures = sum(fuzz(name, args.cases, args.seed, args.limit_s, args.keep) for name in args.only or TARGETS)
    print("PASS: no traceback, no hang, no runaway memory" if not failures else f"FAIL: {failures} cases")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
