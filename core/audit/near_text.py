"""Texts that say nearly the same: other order, other small words, other endings.

Words are weighed by how rare they are in all texts together (bits of surprise). Two texts are near when the words that
they share hold most of the bits of both, and more bits than chance would give among so many pairs: five digits in
common are nothing, five words of a trade are. A digit is one of ten, however rare it is among other texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEM = 5
"""Letters of a word that count: endings differ in paraphrases."""
RAREST = 5
"""Candidates share two of their 5 rarest words."""
NEAR = 0.75
"""Share of the bits of both texts that they must have in common."""
MARGIN_BITS = 10.0
"""Above what chance gives: about one false pair in a thousand manifests."""
GROUP = 40
"""Members of one group of candidates that each text is compared with."""
DIGITS = frozenset(
    ("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", *"0123456789")
)
DIGIT_BITS = math.log2(10)
"""At most, of each of these words."""
_AT_ONCE = 1 << 15
"""Pairs that are weighed together: bounds the memory."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NearText:
    """Two texts, by position in the list (`first` < `second`), that say nearly the same."""

    first: int
    second: int
    share: float


@dataclass(frozen=True, slots=True)
class _Bags:
    """Texts as bags of words: `words` and `counts` of text i are at starts[i] … starts[i + 1], rare words first."""

    starts: Integers
    words: NDArray[np.int32]
    counts: NDArray[np.int32]
    bits: NDArray[np.float64]
    """Of each word."""
    weights: NDArray[np.float64]
    """Bits of each text."""


def near_texts(texts: Sequence[str]) -> Iterator[NearText]:
    """Pairs of different `texts` (normalised, no two equal) that are near, in order."""
    if not texts:
        return
    bags = _bags(texts)
    least = 2 * math.log2(max(2, len(texts))) + MARGIN_BITS
    candidates = _candidates(bags, least)
    for start in range(0, len(candidates), _AT_ONCE):
        pairs = candidates[start : start + _AT_ONCE]
        first, second = pairs // len(texts), pairs % len(texts)
        held, orders = _shared(bags, first, second)
        share = 2 * held / (bags.weights[first] + bags.weights[second])
        for at in np.flatnonzero((share >= NEAR) & (held - orders >= least)):
            yield NearText(int(first[at]), int(second[at]), round(float(share[at]), 3))


def _bags(texts: Sequence[str]) -> _Bags:
    ids: dict[str, int] = {}
    lengths = np.zeros(len(texts), np.int64)
    pieces = []
    for index, text in enumerate(texts):
        words = [ids.setdefault(word[:STEM], len(ids)) for word in text.split()]
        lengths[index] = len(words)
        pieces.append(np.array(words, np.int32))
    spoken = np.concatenate(pieces)
    del pieces
    totals = np.bincount(spoken, minlength=len(ids))
    # Words are numbered from the rarest on; equally rare ones by the alphabet.
    names = list(ids)
    order = sorted(range(len(names)), key=lambda word: (totals[word], names[word]))
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    bits = np.log2(len(spoken) / np.maximum(1, totals[order])) if names else np.empty(0)
    digits = np.array([names[word] in DIGITS for word in order], bool)
    bits[digits] = np.minimum(bits[digits], DIGIT_BITS)
    owners = np.repeat(np.arange(len(texts)), lengths)
    keys, counts = np.unique(owners * max(1, len(names)) + rank[spoken], return_counts=True)
    owner, word = keys // max(1, len(names)), (keys % max(1, len(names))).astype(np.int32)
    starts = np.searchsorted(owner, np.arange(len(texts) + 1))
    weights = np.bincount(owner, weights=bits[word] * counts, minlength=len(texts)).astype(np.float64)
    return _Bags(starts, word, counts.astype(np.int32), bits, weights)


def _candidates(bags: _Bags, least: float) -> Integers:
    """first * texts + second of the pairs that share two of their rarest words, ascending."""
    texts = len(bags.weights)
    sizes = np.diff(bags.starts)
    keys, owners = [], []
    for far in range(1, RAREST):
        has = np.flatnonzero((sizes > far) & (bags.weights >= least))
        for near in range(far):
            one = bags.words[bags.starts[has] + near].astype(np.int64)
            another = bags.words[bags.starts[has] + far]
            keys.append(one * len(bags.bits) + another)
            owners.append(has.astype(np.int32))
    key, owner = np.concatenate(keys), np.concatenate(owners)
    order = np.lexsort((owner, key))
    key, owner = key[order], owner[order].astype(np.int64)
    found: list[Integers] = []
    for distance in range(1, GROUP + 1):
        equal = np.flatnonzero(key[:-distance] == key[distance:])
        if not len(equal):
            break
        found.append(owner[equal] * texts + owner[equal + distance])
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


def _shared(bags: _Bags, first: Integers, second: Integers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(bits of the words that each pair shares, bits that such a bag lacks against a sequence: its orders)."""
    key, count = _spread(bags, first)
    other_key, other_count = _spread(bags, second)
    _, here, there = np.intersect1d(key, other_key, assume_unique=True, return_indices=True)
    both = np.minimum(count[here], other_count[there])
    pair, word = np.divmod(key[here], len(bags.bits))
    held = np.bincount(pair, weights=bags.bits[word] * both, minlength=len(first)).astype(np.float64)
    words = np.bincount(pair, weights=both, minlength=len(first)).astype(np.int64)
    repeats = np.bincount(pair, weights=_LOG2_FACTORIAL[np.minimum(both, _MOST)], minlength=len(first))
    return held, _LOG2_FACTORIAL[np.minimum(words, _MOST)] - repeats


def _spread(bags: _Bags, texts: Integers) -> tuple[Integers, NDArray[np.int32]]:
    """(pair * words + word, count) of the words of each of `texts`, ascending."""
    lengths = bags.starts[texts + 1] - bags.starts[texts]
    ends = np.cumsum(lengths)
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(bags.starts[texts] - ends + lengths, lengths)
    pair = np.repeat(np.arange(len(texts)), lengths)
    return pair * len(bags.bits) + bags.words[at], bags.counts[at]


_MOST = 10_000
_LOG2_FACTORIAL = np.concatenate(([0.0], np.cumsum(np.log2(np.arange(1, _MOST + 1)))))
