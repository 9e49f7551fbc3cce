"""MAPSSWE by hand, and beside NIST's own program where it is installed (Debian package sctk)."""

from __future__ import annotations

import math
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from core.scoring.alignment import Alignment, Comparison, align, compare, segments
from core.scoring.significance import mapsswe

SC_STATS = shutil.which("sc_stats") or shutil.which("sc_stats", path="/usr/lib/sctk/bin")


def both(reference: str, before: str, after: str) -> tuple[Alignment, Alignment]:
    return align([reference], [before])[0], align([reference], [after])[0]


@pytest.mark.parametrize(
    ("reference", "before", "after", "expected"),
    [
        ("a b c d e f g", "a x c d e f y", "a b c d e f g", [(1, 0), (1, 0)]),  # four right words part the two
        ("a b c d e", "a x c y e", "a b c d e", [(2, 0)]),  # one does not
        ("a b c d", "a b c c d", "a b c x", [(1, 1)]),  # an insertion, right before the substitution
        ("a b c", "a b c", "a b c", []),
        ("a b c", "a b c z z", "b c", [(0, 1), (2, 0)]),  # an insertion at the end
        ("", "z", "", [(1, 0)]),
        ("a", "", "a", [(1, 0)]),
    ],
)
def test_segments(reference: str, before: str, after: str, expected: list[tuple[int, int]]) -> None:
    assert list(segments(*both(reference, before, after))) == expected


def test_fixed_and_broken_words() -> None:
    assert compare(*both("a b c d", "a x c d d", "z a b c x")) == Comparison(1, 1, 1, 1)


def test_the_statistic_by_hand() -> None:
    # differences 2, 1, 0, -1, 1: mean 0.6, variance (1.96+0.16+0.36+2.56+0.16)/4 = 1.3, z = 0.6/√(1.3/5)
    found = mapsswe([(2, 0), (1, 0), (1, 1), (0, 1), (3, 2)])
    assert (found.segments, found.mean) == (5, pytest.approx(0.6))
    assert found.z == pytest.approx(0.6 / math.sqrt(1.3 / 5))
    assert found.p_value == pytest.approx(0.2393, abs=1e-4)  # two-tailed, of z = 1.1767


@pytest.mark.parametrize("pairs", [[], [(1, 0)], [(1, 0), (2, 1)]])
def test_no_statistic_without_variance(pairs: list[tuple[int, int]]) -> None:
    assert mapsswe(pairs).p_value is None


def sgml(name: str, references: list[str], alignments: list[Alignment]) -> str:
    """The alignments as sclite writes them, so that both programs see the same ones."""
    lines = [
        f'<SYSTEM title="{name}" ref_fname="r" hyp_fname="h" creation_date="now" format="2.4" frag_corr="FALSE" '
        'opt_del="FALSE" weight_ali="FALSE" weight_filename="">',
        '<SPEAKER id="s">',
    ]
    for number, (reference, found) in enumerate(zip(references, alignments, strict=True)):
        words = [*reference.split(), None]
        path: list[str] = []
        for index, word in enumerate(words):
            path += ['I,,"z"'] * found.inserted[index]
            if word is not None:
                path.append(f'S,"{word}","z"' if found.wrong[index] else f'C,"{word}","{word}"')
        lines += [f'<PATH id="(s_{number:03d})" word_cnt="{len(path)}" sequence="{number}">', ":".join(path), "</PATH>"]
    return "\n".join([*lines, "</SPEAKER>", "</SYSTEM>"]) + "\n"


@pytest.mark.skipif(SC_STATS is None, reason="sc_stats (Debian package sctk) is not installed")
@pytest.mark.parametrize("seed", range(3))
def test_beside_nists_program(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    references = [" ".join(dice.choices("abcdef", k=dice.randint(1, 15))) for _ in range(60)]

    def heard(reference: str, wrong: float) -> str:
        words = []
        for word in reference.split():
            words += [word if dice.random() > wrong else "x"] if dice.random() > wrong / 3 else []
            words += ["y"] if dice.random() < wrong / 3 else []
        return " ".join(words)

    first = align(references, [heard(r, 0.25) for r in references])
    second = align(references, [heard(r, 0.15) for r in references])
    ours = mapsswe(pair for a, b in zip(first, second, strict=True) for pair in segments(a, b))
    piped = sgml("a", references, first) + sgml("b", references, second)
    command = [str(SC_STATS), "-p", "-t", "mapsswe", "-v", "-n", "out"]
    subprocess.run(command, input=piped, text=True, capture_output=True, cwd=tmp_path, check=True)
    report = (tmp_path / "out.stats.mapsswe").read_text(errors="replace")
    found = re.search(r"# segs: (\d+)\).*\(mean: (\S+)\).*\(Z Stat: (\S+)\)", report)
    assert found is not None and ours.z is not None
    assert int(found[1]) == ours.segments
    assert float(found[2]) == pytest.approx(ours.mean, abs=6e-4)
    assert float(found[3]) == pytest.approx(ours.z, abs=6e-4)
