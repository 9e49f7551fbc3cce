"""Plan and trainer ask the same functions; these are their answers."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.plan.fits import (
    MOST_EPOCHS,
    batches_fit,
    left_out,
    share_of_seconds,
    steps_and_epochs,
)
from core.plan.schema import DataSettings, TrainSettings

TRAIN = TrainSettings(epochs=3.0)


def test_few_clips_for_many_steps_are_told_with_their_numbers() -> None:
    said = batches_fit([2.0] * 110, [], TRAIN)
    assert said is not None and "330 training clips in 1000 micro-batches leave some without one" in said


@pytest.mark.parametrize(
    "train",
    [replace(TRAIN, epochs=10.0), replace(TRAIN, steps=330), replace(TRAIN, epochs=None, batch_seconds=8.0)],
)
def test_more_passes_fewer_steps_or_a_larger_batch_fit(train: TrainSettings) -> None:
    assert batches_fit([2.0] * 110, [], train) is None


def test_a_batch_that_cannot_hold_one_clip_and_accumulation_are_seen() -> None:
    small = replace(TRAIN, epochs=None, batch_seconds=1.0)
    assert "1000 micro-batches" in (batches_fit([10.0] * 5000, [], small) or "")
    assert "4000 micro-batches" in (batches_fit([2.0] * 1000, [], replace(TRAIN, accumulation=4)) or "")


def test_long_replay_clips_can_be_too_few() -> None:
    said = batches_fit([1.0] * 1000, [29.0] * 5000, TRAIN)
    assert said is not None and said.startswith("train.replay_share, train.epochs") and "replay clips" in said


def test_a_batch_that_no_memory_holds_is_told_before_anything_starts() -> None:
    for train in (replace(TRAIN, epochs=None, batch_seconds=1e15), replace(TRAIN, epochs=1e9), replace(TRAIN, steps=1)):
        few = [2.0] * (50_000 if train.steps == 1 else 1000)
        assert "more than a day of it, which fits no memory; lower train.epochs" in (batches_fit(few, [], train) or "")
    assert "replay speech in each micro-batch" in (
        batches_fit([2.0] * 9000, [2.0], replace(TRAIN, steps=1, replay_share=0.95)) or ""
    )


def test_a_run_goes_through_no_more_clips_than_can_be_laid_out() -> None:
    said = batches_fit([1.0] * 1000, [], replace(TRAIN, steps=10_000_000, epochs=1e6))
    assert said is not None and "1000000000 training clips are more than a run goes through" in said


def test_clips_are_left_out_by_length_and_text() -> None:
    data = DataSettings(max_seconds=20.0)
    assert left_out(19.0, "text", data, 30.0) is None
    assert left_out(21.0, "text", data, 30.0) == "longer than data.max_seconds = 20"
    assert left_out(19.0, "text", data, 15.0) == "longer than the model's limit of 15 s"
    assert left_out(19.0, " ", data, 30.0) == "no text"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.3, 30.0), min_size=1, max_size=300),
    st.lists(st.floats(0.3, 30.0), max_size=100),
)
def test_what_a_new_plan_begins_with_fits(train_s: list[float], replay_s: list[float]) -> None:
    steps, epochs = steps_and_epochs(train_s, replay_s)
    assert 1 <= steps <= 1000 and 3.0 <= epochs <= MOST_EPOCHS
    fits = batches_fit(train_s, replay_s, TrainSettings(steps=steps, epochs=epochs))
    assert fits is None or steps == 1


def test_many_clips_keep_the_defaults() -> None:
    assert steps_and_epochs([2.0] * 5000, []) == (1000, 3.0)
    assert steps_and_epochs([], []) == (1000, 3.0)
    assert steps_and_epochs([2.0] * 110, []) == (1000, 10.0)
    assert steps_and_epochs([2.0] * 10, []) == (200, 20.0)


def test_a_share_of_tokens_is_as_many_seconds_as_hold_them() -> None:
    by_tokens = replace(TRAIN, replay_share=0.5, replay_share_by="tokens")
    assert share_of_seconds(replace(by_tokens, replay_share_by="seconds"), (100.0, 200), (100.0, 400)) == 0.5
    # replay is spoken twice as fast, so that half as many seconds hold as many tokens
    assert share_of_seconds(by_tokens, (100.0, 200), (50.0, 200)) == pytest.approx(1 / 3)
    assert share_of_seconds(by_tokens, (100.0, 200), (1000.0, 2000)) == pytest.approx(0.5)
    assert share_of_seconds(replace(by_tokens, replay_share=0.0), (100.0, 200), (50.0, 200)) == 0.0
    assert share_of_seconds(by_tokens, (100.0, 200), (50.0, 0)) == 0.5, "without tokens there is nothing to go by"
