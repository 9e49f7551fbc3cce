"""What `data.selection_share` takes out of training: whole speakers, no text that is trained on, never by paths."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from core.errors import ManifestError
from core.manifests.manifest import Manifest, read_manifest
from core.manifests.sets import Split, read_set, reserve_part, split, split_of
from core.plan.schema import DataSettings

Line = tuple[str, str | None, str]
"""(audio, speaker, text)"""


def written(folder: Path, name: str, lines: list[Line]) -> Manifest:
    folder.mkdir(exist_ok=True)
    rows = [{"audio_filepath": audio, "text": text} | ({"speaker": who} if who else {}) for audio, who, text in lines]
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_manifest(path, check_audio=False)


def many(prefix: str, speakers: int, clips: int, *, told: bool = True) -> list[Line]:
    names = [(f"{prefix}{who}", f"{prefix} {who} says {n}", n) for who in range(speakers) for n in range(clips)]
    return [(f"{who}-{n}.wav", who if told else None, text) for who, text, n in names]


def texts(manifest: Manifest, found: Split, role: str) -> set[str]:
    return {u.text for u in manifest.utterances if u.line in found.lines[role]}


def test_speakers_stay_whole_and_all_else_is_trained_on(tmp_path: Path) -> None:
    train, replay = written(tmp_path, "t", many("d", 20, 10)), written(tmp_path, "r", many("g", 30, 5))
    found = split({"train": train, "replay": replay}, 0.1)
    assert {role: len(lines) for role, lines in found.lines.items()} == {
        "train": 180, "replay": 135, "selection": 20, "selection_heldout": 15,
    }  # fmt: skip
    for manifest, role, rest in ((train, "selection", "train"), (replay, "selection_heldout", "replay")):
        who, others = ({u.speaker for u in manifest.utterances if u.line in found.lines[r]} for r in (role, rest))
        assert not who & others
        assert found.speakers[role] == len(who)
    assert found.sentence("selection", 0.1) == (
        "20 clips of 2 speakers, taken from the 200 of data.train (10% is asked for)"
    )


def test_neither_order_nor_place_decides(tmp_path: Path) -> None:
    lines, general = many("d", 20, 10), many("g", 30, 5)
    shuffled = list(lines)
    random.Random(1).shuffle(shuffled)
    taken = []
    for folder, rows in (("here", lines), ("there", shuffled)):
        moved = [(f"{folder}/{audio}", who, text) for audio, who, text in rows]
        train = written(tmp_path / folder, "t", moved)
        found = split({"train": train, "replay": written(tmp_path / folder, "r", general)}, 0.1)
        taken.append(texts(train, found, "selection"))
    assert taken[0] == taken[1]


def test_a_speaker_of_both_manifests_is_taken_from_both(tmp_path: Path) -> None:
    both = [(f"b{n}.wav", f"d{n % 20}", f"general {n}") for n in range(200)]
    train, replay = written(tmp_path, "t", many("d", 20, 10)), written(tmp_path, "r", both)
    found = split({"train": train, "replay": replay}, 0.2)
    taken = {u.speaker for u in train.utterances if u.line in found.lines["selection"]}
    assert taken == {u.speaker for u in replay.utterances if u.line in found.lines["selection_heldout"]}


def test_a_text_that_is_still_trained_on_serves_for_nothing(tmp_path: Path) -> None:
    lines = many("d", 20, 10)
    again = [(audio, who, "Turn it off!" if text.endswith("says 3") else text) for audio, who, text in lines]
    train, replay = written(tmp_path, "t", again), written(tmp_path, "r", many("g", 30, 5))
    found = split({"train": train, "replay": replay}, 0.1)
    assert found.left_out == {"selection": 2, "selection_heldout": 0}
    assert len(found.lines["train"]) == 180 and len(found.lines["selection"]) == 18
    assert "Turn it off!" not in texts(train, found, "selection")
    assert found.sentence("selection", 0.1).endswith("2 more are in no set: what they say is in training, too")


def test_without_speakers_texts_and_recordings_stay_together(tmp_path: Path) -> None:
    """Two slices of one file stay together; each text is on one side."""
    lines = [(f"{n // 2}.wav", None, f"text {n % 150}") for n in range(200)]
    rows = [
        json.dumps({"audio_filepath": a, "text": t, "offset": n % 2, "duration": 1})
        for n, (a, _, t) in enumerate(lines)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    train = read_manifest(tmp_path / "t.jsonl", check_audio=False)
    found = split({"train": train, "replay": written(tmp_path, "r", many("g", 30, 5))}, 0.1)
    assert not texts(train, found, "selection") & texts(train, found, "train")
    files, others = ({u.audio for u in train.utterances if u.line in found.lines[r]} for r in ("selection", "train"))
    assert not files & others
    assert found.speakers["selection"] == 0
    assert ", by texts: speakers are not told," in found.sentence("selection", 0.1)


def test_too_few_speakers(tmp_path: Path) -> None:
    train, replay = written(tmp_path, "t", many("d", 2, 100)), written(tmp_path, "r", many("g", 30, 5))
    with pytest.raises(ManifestError) as caught:
        split({"train": train, "replay": replay}, 0.1)
    assert str(caught.value) == (
        f"data.selection_share = 0.1 cannot be taken from data.train ({train.path}): its clips are of 2 speakers, "
        "which stay whole, and the smallest has 100 of 200 clips: take a larger share, or name manifests in "
        "data.selection and data.selection_heldout instead"
    )
    assert len(split({"train": train, "replay": replay}, 0.5).lines["selection"]) == 100


def test_too_few_texts(tmp_path: Path) -> None:
    commands = [(audio, who, text[-6:]) for audio, who, text in many("d", 20, 10)]
    train, replay = written(tmp_path, "t", commands), written(tmp_path, "r", many("g", 30, 5))
    with pytest.raises(
        ManifestError, match="20 of the 20 clips that it takes say what others say that stay in training"
    ):
        split({"train": train, "replay": replay}, 0.1)


def test_a_set_of_a_run_is_its_part_of_the_manifest(tmp_path: Path) -> None:
    train, replay = written(tmp_path, "t", many("d", 20, 10)), written(tmp_path, "r", many("g", 30, 5))
    data = DataSettings(str(train.path), str(replay.path), "domain", "heldout", selection_share=0.1)
    chosen = read_set(data, "selection", check_audio=False)
    assert [u.index for u in chosen.utterances] == list(range(20))
    assert {u.line for u in chosen.utterances} == split_of(data).lines["selection"]
    whole = DataSettings(str(train.path), str(replay.path), "domain", "heldout")
    assert read_set(whole, "train", check_audio=False) == train


def test_a_reserve_is_dealt_whole_by_speakers_and_not_by_order(tmp_path: Path) -> None:
    lines = many("d", 9, 10)
    shuffled = list(lines)
    random.Random(2).shuffle(shuffled)
    reserve, other = written(tmp_path / "here", "r", lines), written(tmp_path / "there", "r", shuffled)
    parts = [reserve_part(reserve, number, 4) for number in (1, 2, 3, 4)]
    assert sorted(u.line for part in parts for u in part.utterances) == list(range(1, 91))
    who = [{u.speaker for u in part.utterances} for part in parts]
    assert sum(map(len, who)) == 9, "a speaker is in one part"
    assert sorted(map(len, parts)) == [20, 20, 20, 30]
    assert [{u.speaker for u in reserve_part(other, number, 4).utterances} for number in (1, 2, 3, 4)] == who
    assert [u.index for u in parts[0].utterances] == list(range(len(parts[0])))


def test_a_reserve_of_too_few_speakers(tmp_path: Path) -> None:
    reserve = written(tmp_path, "r", many("d", 3, 10))
    with pytest.raises(ManifestError, match=r"data.reserve_parts = 4: .* has clips of 3 speakers, which stay whole"):
        reserve_part(reserve, 1, 4)
