"""Texts that say nearly the same: other order, other small words, other endings.

Words are weighed by how rare they are in all texts together (bits of surprise). Two texts are near when the words that
they share hold most of the bits of both, and more bits than chance would give among so many pairs: five digits in
common are nothing, five words of a trade are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

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


@dataclass(frozen=True, slots=True)
class NearText:
    """Two texts, by position in the list (`first` < `second`), that say nearly the same."""

    first: int
    second: int
    share: float


def near_texts(texts: Sequence[str]) -> Iterator[NearText]:
    """Pairs of different `texts` (normalised, no two equal) that are near. Memory grows with their number only."""
    bags = [Counter(word[:STEM] for word in text.split()) for text in texts]
    counts: Counter[str] = Counter()
    for bag in bags:
        counts.update(bag)
    everything = sum(counts.values())
    bits = {word: math.log2(everything / count) for word, count in counts.items()}
    least = 2 * math.log2(max(2, len(texts))) + MARGIN_BITS
    weights = [sum(bits[word] * count for word, count in bag.items()) for bag in bags]
    groups: dict[tuple[str, str], list[int]] = {}
    for index, bag in enumerate(bags):
        if weights[index] < least:
            continue
        rarest = sorted(sorted(bag, key=lambda word: (-bits[word], word))[:RAREST])
        for pair in combinations(rarest, 2):
            groups.setdefault(pair, []).append(index)
    seen: set[tuple[int, int]] = set()
    for members in groups.values():
        for place, first in enumerate(members):
            for second in members[place + 1 : place + 1 + GROUP]:
                if (first, second) in seen:
                    continue
                seen.add((first, second))
                shared = bags[first] & bags[second]
                held = sum(bits[word] * count for word, count in shared.items())
                share = 2 * held / (weights[first] + weights[second])
                if share >= NEAR and held - _orders(shared) >= least:
                    yield NearText(first, second, round(share, 3))


def _orders(bag: Counter[str]) -> float:
    """Bits that a bag of words lacks against a sequence: log2 of the number of its orders."""
    ways = math.lgamma(sum(bag.values()) + 1) - sum(math.lgamma(count + 1) for count in bag.values())
    return ways / math.log(2)
