from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_kit import FAMILIES, WORDS, speechlike

from core.audio.samples import normalise
from core.training.evaluation import Decoder
from core.training.families.seq2seq import Seq2Seq
from core.training.model import load_model


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Seq2Seq:
    return load_model(str(request.getfixturevalue(request.param)))


def decode(model: Seq2Seq, clips: list[Any], caps: list[int]) -> list[list[int]]:
    with torch.inference_mode():
        return model.decode(model.encode(model.features(clips)), caps)


def test_greedy_decoding_is_that_of_transformers_at_batch_1(digits: Path, base_model: Path, decoded: Any) -> None:
    model = load_model(str(base_model))
    _, clips = decoded(digits / "heldout_manifest.jsonl")
    for index in range(16):
        clip = normalise(clips[index]).samples
        cap = model.limits.tokens(len(clip))
        features = model.features([clip])
        ours = model.text(decode(model, [clip], [cap])[0])
        theirs = model.network.generate(**features, max_new_tokens=cap, do_sample=False, num_beams=1)
        assert ours == model.text(theirs[0].tolist())
        assert set(ours.split()) & set(WORDS)


def test_a_random_streaming_model_decodes_as_transformers_does(tiny_streaming: Path) -> None:
    # its decoder changes the encoder's output in place: a second token must not see it changed twice
    model = load_model(str(tiny_streaming))
    clip = normalise(speechlike("one two three four")).samples
    features = model.features([clip])
    theirs = model.network.generate(**features, max_new_tokens=12, do_sample=False, num_beams=1)[0].tolist()
    ours = decode(model, [clip], [12])[0]
    assert ours
    assert ours == [token for token in theirs if token not in (*model.vocabulary.prefix, *model.vocabulary.eos)]


def test_a_short_clip_keeps_its_cap_beside_a_long_one(model: Seq2Seq) -> None:
    never = model.vocabulary.eos
    object.__setattr__(model.vocabulary, "suppressed", (*model.vocabulary.suppressed, *never))
    short, long = speechlike("one"), speechlike("one two three four five six seven")
    alone = decode(model, [short], [3])
    together = decode(model, [short, long], [3, 17])
    assert [len(tokens) for tokens in together] == [3, 17]
    assert together[0] == alone[0]


def test_the_cap_grows_with_the_clip_and_ends_at_the_decoders_positions(base_model: Path) -> None:
    limits = load_model(str(base_model)).limits
    assert limits.tokens(16_000) == int(limits.tokens_per_second) + 2
    assert limits.tokens(0) >= 1
    assert limits.tokens(16_000 * 3600) == limits.max_tokens == 194 - 1 - 1


def test_suppressed_tokens_are_never_written(tiny_whisper: Path) -> None:
    model = load_model(str(tiny_whisper))
    free = decode(model, [speechlike("one two")], [8])[0]
    banned = (*model.vocabulary.suppressed, free[1])
    object.__setattr__(model.vocabulary, "suppressed", banned)
    object.__setattr__(model.vocabulary, "suppressed_first", (*model.vocabulary.suppressed_first, free[0]))
    written = decode(model, [speechlike("one two")], [8])[0]
    assert not set(written) & set(banned)
    assert written[0] != free[0]


def test_a_random_model_writes_the_same_alone_and_in_a_batch(model: Seq2Seq) -> None:
    texts = ["one", "two three four five six", "seven eight", "nine nine nine"]
    clips = [normalise(speechlike(text, seed)).samples for seed, text in enumerate(texts)]
    caps = [model.limits.tokens(len(clip)) for clip in clips]
    assert decode(model, clips, caps) == [
        decode(model, [clip], [cap])[0] for clip, cap in zip(clips, caps, strict=True)
    ]


def test_clips_of_any_length_can_be_decoded(model: Seq2Seq) -> None:
    clips = [np.zeros(1, np.float32), np.zeros(900, np.float32), speechlike("one")[:1100]]
    texts, _, _, _ = Decoder(model).run([len(clip) for clip in clips], lambda i: clips[i])
    alone = [Decoder(model).run([len(clip)], [clip].__getitem__)[0][0] for clip in clips]
    assert texts == alone


def test_rows_that_have_ended_leave_the_batch_and_change_no_other(tiny_whisper: Path) -> None:
    """The last steps are computed for those that still write; what these write is what they write alone."""
    model = load_model(str(tiny_whisper))
    object.__setattr__(model.vocabulary, "suppressed", (*model.vocabulary.suppressed, *model.vocabulary.eos))
    clips = [speechlike(text) for text in ("one", "two three", "four five six", "seven")]
    caps = [2, 9, 2, 5]
    rows: list[int] = []

    def look(_: Any, __: Any, given: dict[str, Any]) -> None:
        rows.append(len(given["decoder_input_ids"]))

    hook = model.network.register_forward_pre_hook(look, with_kwargs=True)
    together = decode(model, clips, caps)
    hook.remove()
    assert rows == [4, 4, 2, 2, 2, 1, 1, 1, 1]
    assert together == [decode(model, [clip], [cap])[0] for clip, cap in zip(clips, caps, strict=True)]
