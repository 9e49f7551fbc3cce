"""The sets of a run: which manifest each is in, and those that `data.selection_share` takes out of training.

What is taken serves to choose on, so it must be speech of others than what is trained on: whole speakers, whole
recordings, and no text that is still trained on. It depends on what the manifests say, and neither on the order of
their lines nor on where files lie: the units are taken in the order of a hash of their speakers or texts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from core.errors import ManifestError
from core.manifests.manifest import Manifest, Utterance, read_manifest
from core.plan.schema import DataSettings
from core.scoring.data_health import SETS, TAKEN_FROM
from core.scoring.significance import connected
from core.scoring.text import normaliser
from core.system.files import stamp

MOST_OVER = 1.5
"""Times the share that is taken at most, since speakers stay whole; and at least half of it."""


def set_paths(data: DataSettings) -> dict[str, str]:
    """Role → the manifest that its clips are in, as `data` writes it, for each that there is, in the order of SETS."""
    found = {name: getattr(data, name) for name in SETS}
    if data.selection_share > 0:
        found |= {name: found[source] for name, source in TAKEN_FROM.items()}
    return {name: path for name, path in found.items() if path is not None}


def is_parted(data: DataSettings, name: str) -> bool:
    """Whether the set is only a part of its manifest."""
    return data.selection_share > 0 and name in {*TAKEN_FROM, *TAKEN_FROM.values()}


def read_set(data: DataSettings, name: str, *, check_audio: bool = True) -> Manifest:
    """The clips of a set of `data`, whose paths are absolute. Raises ManifestError, OSError."""
    manifest = read_manifest(Path(set_paths(data)[name]), check_audio=check_audio)
    if not is_parted(data, name):
        return manifest
    lines = split_of(data).lines[name]
    kept = [utterance for utterance in manifest.utterances if utterance.line in lines]
    if not kept:
        raise ManifestError(f"data.{name}: {manifest.path} changed while it was read: try again")
    return Manifest(manifest.path, tuple(replace(one, index=index) for index, one in enumerate(kept)))


@dataclass(frozen=True, slots=True)
class Split:
    """Which lines of the training manifests serve for what."""

    lines: Mapping[str, frozenset[int]]
    """Role → numbers of the lines, from 1: train, replay, selection and selection_heldout."""
    speakers: Mapping[str, int]
    """Role → how many speakers its clips have; 0 where the manifest does not tell them all."""
    left_out: Mapping[str, int]
    """Role of a selection set → clips of its speakers that are in no set, because their text is still trained on."""

    def sentence(self, name: str, share: float) -> str:
        """What a selection set is, without a full stop: `150 clips of 3 speakers, 10 % of data.train's 1500`."""
        source, count = TAKEN_FROM[name], len(self.lines[name])
        left_out, speakers = self.left_out[name], self.speakers[name]
        whole = count + left_out + len(self.lines[source])
        who = (
            f" of {speakers} speaker{'' if speakers == 1 else 's'}" if speakers else ", by texts: speakers are not told"
        )
        said = f"{count} clips{who}, taken from the {whole} of data.{source} ({share:.0%} is asked for)"
        if left_out:
            said += f"; {left_out} more are in no set: what they say is in training, too"
        return said


def split_of(data: DataSettings) -> Split:
    """What `data.selection_share` takes. Raises ManifestError, with the reason, where it cannot be taken; OSError."""
    if data.replay is None:
        raise ManifestError("data.selection_share: there is no data.replay to take the heldout half from")
    train, replay = Path(data.train), Path(data.replay)
    return _split_of(train, stamp(train.stat()), replay, stamp(replay.stat()), data.selection_share)


@lru_cache(maxsize=8)
def _split_of(train: Path, _train: tuple[int, ...], replay: Path, _replay: tuple[int, ...], share: float) -> Split:
    manifests = (read_manifest(path, check_audio=False) for path in (train, replay))
    return split(dict(zip(TAKEN_FROM.values(), manifests, strict=True)), share)


Place = tuple[str, Utterance]
"""(train or replay, a line of it)."""


def split(manifests: Mapping[str, Manifest], share: float) -> Split:
    """Take a share of the clips of train and of replay. Raises ManifestError where that cannot be done.

    Clips of one speaker, or of one recording, stay together, in both manifests; where a manifest does not name the
    speaker of every clip, clips of one text do. Then clips whose text is still trained on are taken out of what was
    taken, and serve for nothing.
    """
    apply = normaliser("basic").apply
    told = {name: all(u.speaker is not None for u in one.utterances) for name, one in manifests.items()}
    places = [(name, utterance) for name, one in manifests.items() for utterance in one.utterances]
    texts = [apply(utterance.text) for _, utterance in places]
    labels = [
        ("speaker", str(utterance.speaker)) if told[name] else ("text", text)
        for (name, utterance), text in zip(places, texts, strict=True)
    ]
    units = connected(labels, [utterance.audio for _, utterance in places])
    taken = _taken(places, labels, units, share)
    trained = {text for text, unit in zip(texts, units, strict=True) if unit not in taken}
    lines: dict[str, list[int]] = {name: [] for name in (*TAKEN_FROM.values(), *TAKEN_FROM)}
    speakers: dict[str, set[str | None]] = {name: set() for name in lines}
    left_out = dict.fromkeys(TAKEN_FROM, 0)
    to = {source: name for name, source in TAKEN_FROM.items()}
    for (name, utterance), text, unit in zip(places, texts, units, strict=True):
        role = to[name] if unit in taken else name
        if role in TAKEN_FROM and text in trained:
            left_out[role] += 1
            continue
        lines[role].append(utterance.line)
        speakers[role].add(utterance.speaker)
    for role, source in TAKEN_FROM.items():
        manifest = manifests[source]
        _check(manifest, source, share, len(lines[role]), left_out[role], _largest(places, units, source), told[source])
    counted = {name: 0 if None in some else len(some) for name, some in speakers.items()}
    return Split({name: frozenset(some) for name, some in lines.items()}, counted, left_out)


def _taken(
    places: Sequence[Place], labels: Sequence[tuple[str, str]], units: Sequence[int], share: float
) -> Collection[int]:
    """The units that are taken, in the order of their hashes, until both manifests have given the share."""
    sizes: dict[int, Counter[str]] = {}
    order: dict[int, str] = {}
    for (name, _), label, unit in zip(places, labels, units, strict=True):
        sizes.setdefault(unit, Counter())[name] += 1
        digest = hashlib.sha256("\0".join(("selection", *label)).encode()).hexdigest()
        order[unit] = min(order.get(unit, digest), digest)
    target = {name: share * count for name, count in Counter(name for name, _ in places).items()}
    taken: set[int] = set()
    have: Counter[str] = Counter()
    for unit in sorted(order, key=lambda unit: order[unit]):
        size = sizes[unit]
        wanted = any(have[name] < target[name] for name in size)
        if wanted and all(have[name] + size[name] <= MOST_OVER * target[name] for name in size):
            taken.add(unit)
            have += size
    return taken


def reserve_part(manifest: Manifest, part: int, parts: int) -> Manifest:
    """Part 1 … `parts` of a reserve. Speakers, or texts where they are not told, and recordings are in one part each.

    They are dealt in the order of a hash of what they are, each to the part with the fewest clips so far. ManifestError
    where there are fewer of them than parts.
    """
    apply = normaliser("basic").apply
    told = all(utterance.speaker is not None for utterance in manifest.utterances)
    labels = [("speaker", str(u.speaker)) if told else ("text", apply(u.text)) for u in manifest.utterances]
    units = connected(labels, [utterance.audio for utterance in manifest.utterances])
    order: dict[int, str] = {}
    for label, unit in zip(labels, units, strict=True):
        digest = hashlib.sha256("\0".join(("reserve", *label)).encode()).hexdigest()
        order[unit] = min(order.get(unit, digest), digest)
    if len(order) < parts:
        what = "speakers" if told else "different texts"
        raise ManifestError(
            f"data.reserve_parts = {parts}: {manifest.path} has clips of {len(order)} {what}, which stay whole: "
            "ask for fewer parts, or bring more"
        )
    sizes = Counter(units)
    filled, dealt = [0] * parts, dict[int, int]()
    for unit in sorted(order, key=lambda unit: order[unit]):
        dealt[unit] = min(range(parts), key=lambda number: filled[number])
        filled[dealt[unit]] += sizes[unit]
    kept = [u for u, unit in zip(manifest.utterances, units, strict=True) if dealt[unit] == part - 1]
    return Manifest(manifest.path, tuple(replace(one, index=index) for index, one in enumerate(kept)))


def _largest(places: Sequence[Place], units: Sequence[int], source: str) -> tuple[int, int]:
    """(how many units a manifest has, clips of the smallest)."""
    sizes = Counter(unit for (name, _), unit in zip(places, units, strict=True) if name == source)
    return len(sizes), min(sizes.values())


def _check(
    manifest: Manifest, source: str, share: float, count: int, left_out: int, units: tuple[int, int], told: bool
) -> None:
    """Raise ManifestError where less than half of the share came together."""
    whole = len(manifest)
    if count >= max(1, share * whole / 2):
        return
    head = f"data.selection_share = {share:g} cannot be taken from data.{source} ({manifest.path}): "
    advice = "name manifests in data.selection and data.selection_heldout instead"
    if count + left_out >= max(1, share * whole / 2):
        raise ManifestError(
            f"{head}{left_out} of the {count + left_out} clips that it takes say what others say that stay in "
            f"training, so too few texts would be new: {advice}"
        )
    what = "speakers" if told else "different texts"
    raise ManifestError(
        f"{head}its clips are of {units[0]} {what}, which stay whole, and the smallest has {units[1]} of {whole} "
        f"clips: take a larger share, or {advice}"
    )
