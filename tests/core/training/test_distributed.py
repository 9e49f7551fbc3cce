"""`train.devices`: several processes are one trainer."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_trainer import signal_at
from ranks_kit import assert_same_result, on_ranks, train_on
from safetensors.torch import load_file
from training_kit import QUICK, TrainingRun, made_up_set

from core.errors import Interrupted, ModelError
from core.runs.consistency import wrong_facts
from core.runs.events import CheckpointSaved, Event, Final, IntervalScored, Phase, Step
from core.runs.scores import read_score
from core.runs.status import Status
from core.training.checkpoint import whole_checkpoints
from core.training.distributed import PeerLostError, Ranks

KILLED = signal.SIGKILL
"""The wait status of a process that was killed."""


def gradients(rank: int) -> list[torch.nn.Parameter]:
    """Of three parameters: one that all ranks have a gradient of, one that the first has none of, one that none has."""
    random = torch.Generator().manual_seed(rank)
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((5,), (2, 3), (4,))]
    parameters[0].grad = torch.randn(5, generator=random)
    if rank:
        parameters[1].grad = torch.randn((2, 3), generator=random)
    return parameters


def test_gradients_are_summed_in_the_order_of_the_ranks_to_the_same_bits_everywhere(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> Any:
        parameters = gradients(ranks.rank)
        done = ranks.whole_step([f"micro-batch {number}" for number in ranks.share(6)], parameters)
        return done, [p.grad if p.grad is None else p.grad.tolist() for p in parameters]

    found = on_ranks(3, tmp_path, work)
    assert found[0] == found[1] == found[2]
    done, [first, second, none] = found[0]
    assert done == [f"micro-batch {number}" for number in range(6)]
    each = [gradients(rank) for rank in range(3)]
    assert first == ((each[0][0].grad + each[1][0].grad) + each[2][0].grad).tolist()  # type: ignore[operator]
    assert second == (each[1][1].grad + each[2][1].grad).tolist()  # type: ignore[operator]
    assert none is None, "AdamW would decay the weight and count a step for it"


def test_batches_are_shared_out_and_put_together_in_their_order(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> Any:
        mine: list[int] = []
        return ranks.shared(7, lambda number: mine.append(number) or number**2), mine

    found = on_ranks(2, tmp_path, work)
    assert [mine for _, mine in found] == [[0, 2, 4, 6], [1, 3, 5]]
    assert [every for every, _ in found] == [[0, 1, 4, 9, 16, 25, 36]] * 2


def test_asked_to_stop_one_of_them_stops_all_when_each_is_between_two_batches(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> Any:
        def one(number: int) -> int:
            if number == 3:
                raise Interrupted("stopped while evaluating")
            return number

        with pytest.raises(Interrupted, match="while evaluating"):
            ranks.shared(6, one)
        return ranks.shared(2, lambda number: number)

    assert on_ranks(2, tmp_path, work) == [[0, 1]] * 2


def test_weights_of_rank_0_go_to_all(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> Any:
        weight = torch.full((2, 3), float(ranks.rank)).t()
        ranks.spread([weight])
        return weight.tolist()

    assert on_ranks(2, tmp_path, work) == [[[0.0, 0.0]] * 3] * 2


def test_processes_that_differ_are_an_error_on_each(tmp_path: Path) -> None:
    found = on_ranks(2, tmp_path, lambda ranks: ranks.agree("the batch plan", str(ranks.rank)))
    assert all(isinstance(error, ModelError) for error in found)
    assert "the batch plan of process 1 is not that of process 0 (1, not 0)" in str(found[0])


@pytest.mark.parametrize("own", [Final("stopped", "asked", 4), Final("error", "it misses another one", 4)])
@pytest.mark.parametrize("word", [None, Final("out_of_memory", "no memory"), Final("stopped", "asked")])
def test_one_that_is_gone_ends_the_run_with_its_last_word_or_as_crashed(
    tmp_path: Path, word: Final | None, own: Final
) -> None:
    def work(ranks: Ranks) -> Any:
        if ranks.leads:
            ranks._store.set("found the other one", "")  # which ends only then
            with pytest.raises(PeerLostError) as lost:
                ranks.agree("anything", "")
            settled = ranks.settle(own, lost.value)
        else:
            ranks._store.get("found the other one")
            if word is not None:
                ranks.last_word(word)
            os._exit(0)
        (tmp_path / "settled.txt").write_text(repr(settled))
        os._exit(0)

    with pytest.raises(FileNotFoundError):
        on_ranks(2, tmp_path, work)
    expected = {
        None: None,
        "stopped": Final("stopped", "asked", 4),
        "out_of_memory": Final("out_of_memory", "no memory", 4),
    }
    assert (tmp_path / "settled.txt").read_text() == repr(expected[None if word is None else word.outcome])


def adapters(run: TrainingRun, step: int) -> dict[str, torch.Tensor]:
    return load_file(run.paths.adapter(step) / "adapter_model.safetensors")


def texts(run: TrainingRun, step: int, name: str) -> list[str]:
    score, problem = read_score(run.paths.evaluation(step, name))
    assert score is not None, problem
    return [utterance.hypothesis for utterance in score.utterances]


@pytest.mark.heavy
def test_two_processes_train_what_one_trains(two_devices: TrainingRun, finished_run: TrainingRun) -> None:
    """With a micro-batch for each of them even to the bit: the same sums in the same order."""
    assert train_on(2, two_devices) == {0: 0, 1: 0}, two_devices.log
    assert (two_devices.final.outcome, two_devices.snapshot.state) == ("done", Status.DONE)
    assert two_devices.paths.name != finished_run.paths.name, "what may differ in its last bits is another run"
    best = two_devices.paths.best.resolve().name
    assert not list(wrong_facts(two_devices.snapshot, best)), "they share the threads of the run"
    for name in ("loss", "grad_norm", "tokens", "audio_s", "intervals"):
        assert two_devices.history()[name] == finished_run.history()[name], name
    for step in (0, 2, 4, 6, 8):
        for name in ("domain", "heldout"):
            assert texts(two_devices, step, name) == texts(finished_run, step, name)
    for step in (2, 4, 6, 8):
        ours, theirs = adapters(two_devices, step), adapters(finished_run, step)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert len([record for record in two_devices.records if isinstance(record.event, Step)]) == 8, "one of them writes"


@pytest.mark.heavy
@pytest.mark.long
def test_candidates_are_scored_by_all_with_the_weights_of_the_first(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> None:
    """They are made of saved adapters, of other ranks; an interval may score an average: rank 0 alone has those."""
    sets = quick_sets | {
        name: made_up_set(tmp_path, name, 5, seed) for name, seed in (("selection", 21), ("selection_heldout", 22))
    }
    more = (
        "train.interpolate=[0.5]",
        "train.average=2",
        "train.ema=0.9",
        "train.kl=0.5",
        "gate.heldout_regression=100.0",
    )
    runs = [
        TrainingRun(
            tmp_path / str(size), tiny_moonshine, sets, *QUICK, "train.eval_every=4", *more, f"train.devices={size}"
        )
        for size in (1, 2)
    ]
    one, two = runs[0].trained(), runs[1]
    assert set(train_on(2, two).values()) == {0}, two.log
    assert two.history()["loss"] == one.history()["loss"]
    documents = sorted(path.relative_to(one.paths.evals) for path in one.paths.evals.rglob("*held*.json"))
    assert len(one.snapshot.candidates) == 3 and len(documents) > 8
    for document in documents:
        ours, theirs = (json.loads((run.paths.evals / document).read_text()) for run in (two, one))
        assert ours["counts"] == theirs["counts"] and ours["loss"] == theirs["loss"], document
        assert [u["hypothesis"] for u in ours["utterances"]] == [u["hypothesis"] for u in theirs["utterances"]]


def only(rank: int, prepare: Any) -> Any:
    return lambda own: prepare() if own == rank else None


def kill_self_at_step(number: int) -> None:
    """In a process that only follows: SIGKILL in the middle of this step."""
    from core.training.distributed import Ranks

    whole_step = Ranks.whole_step
    calls = iter(range(1, 100))

    def die(self: Ranks, *arguments: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole_step(self, *arguments)

    Ranks.whole_step = die  # type: ignore[method-assign]


@pytest.mark.heavy
def test_one_that_is_killed_leaves_a_crashed_run_that_goes_on_as_if_undisturbed(
    two_devices: TrainingRun, finished_on_two: TrainingRun
) -> None:
    statuses = train_on(2, two_devices, only(1, lambda: kill_self_at_step(6)))
    assert statuses == {0: 1 << 8, 1: KILLED}
    assert two_devices.snapshot.state is Status.CRASHED
    assert not any(isinstance(record.event, Final) for record in two_devices.records)
    assert two_devices.snapshot.steps.last_step == 5
    statuses = train_on(2, two_devices, only(0, signal_at(KILLED, lambda event: event == CheckpointSaved(6))))
    assert statuses[0] == KILLED
    assert two_devices.snapshot.state is Status.CRASHED
    assert set(train_on(2, two_devices).values()) == {0}, two_devices.log
    assert_same_result(two_devices, finished_on_two)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("rank", "when"),
    [
        pytest.param(0, Step, id="after a step"),
        pytest.param(1, Step, id="told to another one", marks=pytest.mark.long),
        pytest.param(0, IntervalScored, id="after an interval", marks=pytest.mark.long),
        pytest.param(0, Phase, id="while it loads", marks=pytest.mark.long),
    ],
)
def test_sigterm_stops_all_at_one_step_and_the_run_goes_on(
    two_devices: TrainingRun, finished_on_two: TrainingRun, rank: int, when: type[Event]
) -> None:
    def third_step() -> None:
        """What comes to another process than the first is known to all after the next step."""
        from core.training.distributed import Ranks

        whole_step = Ranks.whole_step
        calls = iter(range(1, 100))

        def asked(self: Ranks, *arguments: Any) -> Any:
            if next(calls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return whole_step(self, *arguments)

        Ranks.whole_step = asked  # type: ignore[method-assign]

    first = signal_at(signal.SIGTERM, lambda event: isinstance(event, when) and getattr(event, "step", 4) == 4)
    assert train_on(2, two_devices, only(rank, third_step if rank else first)) == {0: 0, 1: 0}, two_devices.log
    assert (two_devices.final.outcome, two_devices.snapshot.state) == ("stopped", Status.STOPPED), two_devices.log
    if when is Step:
        step = 3 if rank else 4
        assert (two_devices.final.step, whole_checkpoints(two_devices.paths)[-1]) == (step, step)
    assert set(train_on(2, two_devices).values()) == {0}, two_devices.log
    assert_same_result(two_devices, finished_on_two)


@pytest.mark.heavy
def test_memory_that_another_process_lacks_is_told_as_the_end_of_the_run(two_devices: TrainingRun) -> None:
    def no_memory() -> None:
        from core.training.trainer import Trainer

        def lacking(self: Trainer, *arguments: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 1 has 1 GiB free")

        Trainer._summed_losses = lacking  # type: ignore[method-assign]

    assert set(train_on(2, two_devices, only(1, no_memory)).values()) == {1 << 8}
    assert two_devices.final.outcome == "out_of_memory"
    assert "Tried to allocate 2 GiB" in two_devices.final.message
