"""`train.kl`, `train.decay_to_base` and `train.ema`: what keeps an adapter near the base model, step by step."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_trainer import signal_at
from ranks_kit import train_on
from safetensors.torch import load_file
from training_kit import QUICK, TrainingRun, made_up_set, stepped

from core.errors import RunFolderError
from core.runs.adapter_files import WEIGHTS
from core.runs.events import CandidateScored, Record, Step, decode, encode
from core.training.adapter import merged
from core.training.batching import MicroBatch
from core.training.checkpoint import load_checkpoint, save_checkpoint
from core.training.near_base import MovingAverage, pull_to_base

BOTH = [[MicroBatch((0, 1, 2), (0, 3))]]
ON = ("train.kl=0.5", "train.decay_to_base=2.0", "train.ema=0.6")


def disturb(trainer: Any, size: float = 0.3) -> None:
    """Give the adapter weights that change what the model says."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trainer.parameters.values():
            parameter.add_(torch.randn_like(parameter) * size)


def effective(trainer: Any) -> dict[str, torch.Tensor]:
    """Every weight of the model, the adapter merged in."""
    with merged(trainer.speech) as speech:
        return {name: tensor.detach().double().clone() for name, tensor in speech.network.state_dict().items()}


def test_a_step_reports_its_divergence_apart_from_its_loss(make: Any) -> None:
    plan = BOTH * 3
    plain, held = make("adapter.dropout=0", steps=plan), make("adapter.dropout=0", "train.kl=0.5", steps=plan)
    [off], [on] = stepped(plain, 1), stepped(held, 1)
    assert off.kl is None
    assert on.kl == pytest.approx(0.0, abs=1e-6), "an adapter that changes nothing is the base model"
    assert (on.loss, on.tokens) == (off.loss, off.tokens)
    later = stepped(held, 2, 3)
    assert all(step.kl is not None and step.kl > 0 for step in later)


def test_the_divergence_is_counted_for_each_unit_of_the_step_s_replay_speech(make: Any) -> None:
    whole = make("adapter.dropout=0", "train.kl=2.0", steps=BOTH)
    parts = make(
        "adapter.dropout=0",
        "train.kl=2.0",
        steps=[[MicroBatch((0,), ()), MicroBatch((1,), (0,)), MicroBatch((2,), (3,))]],
    )
    for trainer in (whole, parts):
        disturb(trainer)
    [one], [other] = stepped(whole, 1), stepped(parts, 1)
    assert one.kl is not None and one.kl > 0.005
    assert one.kl == pytest.approx(other.kl, rel=1e-4)
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)


def test_it_holds_the_adapter_back(make: Any) -> None:
    plan, numbers = BOTH * 8, range(1, 9)
    ends = {}
    for weight in (1e-9, 20.0):
        ends[weight] = stepped(make("adapter.dropout=0", f"train.kl={weight}", steps=plan), *numbers)[-1].kl
    assert ends[20.0] < ends[1e-9] / 2


@pytest.mark.parametrize("method", ["pissa", "dora"])
def test_what_is_frozen_stays_frozen_and_the_base_is_heard_without_the_adapter(make: Any, method: str) -> None:
    trainer = make(f'adapter.method="{method}"', "train.kl=1.0", "adapter.dropout=0", steps=BOTH * 2)
    flags = {name: p.requires_grad for name, p in trainer.speech.network.named_parameters()}
    first, second = stepped(trainer, 1, 2)
    assert first.kl == pytest.approx(0.0, abs=1e-5) and second.kl > 0
    assert {name: p.requires_grad for name, p in trainer.speech.network.named_parameters()} == flags
    assert all(p.grad is None for p in trainer.speech.network.parameters())


def test_dropout_is_the_same_with_and_without_it(make: Any) -> None:
    """The base model draws nothing, so that the loss curves of two runs can be compared."""
    [off], [on] = (stepped(make("adapter.dropout=0.3", *more, steps=BOTH), 1) for more in ((), ("train.kl=1.0",)))
    assert on.loss == off.loss


@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_a_pull_takes_the_same_share_of_every_effective_weight_s_change(make: Any, method: str) -> None:
    trainer = make(f'adapter.method="{method}"', "adapter.alpha=7")
    before = effective(trainer)
    disturb(trainer, 0.2)
    moved = effective(trainer)
    pull_to_base(trainer.speech, 0.25)
    pulled = effective(trainer)
    assert any(not torch.equal(before[name], moved[name]) for name in before)
    for name in before:
        wanted = before[name] + 0.75 * (moved[name] - before[name])
        assert torch.allclose(pulled[name], wanted, atol=2e-6), name


def test_each_step_pulls_by_its_own_learning_rate(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr("core.training.trainer.pull_to_base", lambda speech, share: shares.append(share))
    steps = stepped(make("train.decay_to_base=10", steps=BOTH * 2), 1, 2)
    assert shares == [step.learning_rate * 10 for step in steps]


def test_the_average_begins_with_the_parameters_and_moves_a_share_each_step(make: Any) -> None:
    trainer = make("train.ema=0.75", "adapter.dropout=0", steps=BOTH * 3)
    expected = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    for number in (1, 2, 3):
        stepped(trainer, number)
        expected = {name: 0.75 * expected[name] + 0.25 * p.detach() for name, p in trainer.parameters.items()}
    assert trainer.average.tensors.keys() == expected.keys()
    for name, tensor in trainer.average.tensors.items():
        assert torch.allclose(tensor, expected[name], atol=1e-6)


def test_training_itself_does_not_see_the_average(make: Any) -> None:
    plan = BOTH * 4
    plain, averaged = make(steps=plan), make("train.ema=0.9", steps=plan)
    assert [(s.loss, s.grad_norm) for s in stepped(plain, 1, 2, 3, 4)] == [
        (s.loss, s.grad_norm) for s in stepped(averaged, 1, 2, 3, 4)
    ]


def test_an_interval_scores_and_saves_the_average(make: Any) -> None:
    trainer = make("train.ema=0.5", "adapter.dropout=0", "adapter.method='lora'")
    stepped(trainer, 1, 2)
    own = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    with trainer.average.in_place():
        scored = effective(trainer)
    heard: list[dict[str, torch.Tensor]] = []

    def scorer(speech: Any, *rest: Any) -> Any:
        heard.append({name: tensor.double() for name, tensor in speech.network.state_dict().items()})
        raise InterruptedError

    trainer.scorer = scorer
    trainer.scorer.stopping = type("Never", (), {"check_folder": staticmethod(lambda: None)})
    with pytest.raises(InterruptedError):
        trainer._interval_if_due()
    assert all(torch.equal(p, own[name]) for name, p in trainer.parameters.items()), "it goes on from its own weights"
    assert all(torch.equal(heard[0][name], scored[name]) for name in scored)
    saved = load_file(trainer.paths.adapter(2) / WEIGHTS)
    for name, tensor in trainer.average.tensors.items():
        assert torch.equal(saved[name.replace(".default", "")], tensor)
    assert any(not torch.equal(trainer.average.tensors[name], own[name]) for name in own)


def test_a_checkpoint_holds_the_average_and_one_without_it_is_damaged(make: Any) -> None:
    trainer, other = make("train.ema=0.5"), make("train.ema=0.5")
    stepped(trainer, 1, 2)
    trainer.average.tensors["base_model.extra"] = torch.ones(2)
    save_checkpoint(trainer.paths, 2, trainer.parameters, trainer.optimiser, "plan", trainer.average.tensors)
    other.average.tensors["base_model.extra"] = torch.zeros(2)
    load_checkpoint(trainer.paths, 2, other.parameters, other.optimiser, "plan", other.average.tensors)
    for name, tensor in trainer.average.tensors.items():
        assert torch.equal(other.average.tensors[name], tensor)
    save_checkpoint(trainer.paths, 3, trainer.parameters, trainer.optimiser, "plan")
    with pytest.raises(RunFolderError, match="damaged"):
        load_checkpoint(trainer.paths, 3, other.parameters, other.optimiser, "plan", other.average.tensors)


def test_an_average_that_fails_meanwhile_gives_the_parameters_back() -> None:
    parameters = {"a": torch.nn.Parameter(torch.zeros(3))}
    average = MovingAverage(parameters, 0.5)
    with torch.no_grad():
        parameters["a"].fill_(1.0)
    average.update()
    with pytest.raises(KeyError), average.in_place():
        assert parameters["a"].tolist() == [0.5] * 3
        raise KeyError
    assert parameters["a"].tolist() == [1.0] * 3


@pytest.mark.parametrize("kl", [None, 0.25, float("nan")])
def test_the_line_of_a_step_tells_the_divergence_only_where_there_is_one(kl: float | None) -> None:
    line = encode(Record(1, 2.0, Step(3, 1.5, 1e-4, 0.5, 7, 2.0, 0.1, kl)))
    assert ("kl" in line) is (kl is not None)
    read = decode(line)
    assert read is not None and isinstance(read.event, Step)
    assert repr(read.event.kl) == repr(kl)
    assert decode(line.replace("}", ', "kl": [1]}')) is None


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, tiny_moonshine: Path, quick_sets: dict[str, Path]) -> Any:
    """A function that makes a run with everything on that keeps an adapter near its base, and candidates."""
    folder = tmp_path_factory.mktemp("selection")
    sets = quick_sets | {
        "selection": made_up_set(folder, "selection", 4, 21),
        "selection_heldout": made_up_set(folder, "selection_heldout", 4, 22),
    }
    more = (
        *ON,
        "train.eval_every=4",
        "train.average=2",
        "train.interpolate=[0.3]",
        "train.interpolate_last=2",
        'train.replay_share_by="tokens"',
    )

    def make(root: Path, *others: str) -> TrainingRun:
        return TrainingRun(root, tiny_moonshine, sets, *QUICK, *more, *others)

    return make


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, everything: Any) -> TrainingRun:
    run: TrainingRun = everything(tmp_path_factory.mktemp("undisturbed")).trained()
    return run


def divergences(run: TrainingRun) -> dict[int, float | None]:
    """Of each step, of the attempt that made it last."""
    return {one.event.step: one.event.kl for one in run.records if isinstance(one.event, Step)}


@pytest.mark.heavy
@pytest.mark.parametrize("step", [5, pytest.param(8, marks=pytest.mark.long)])
def test_a_run_killed_with_every_lever_on_ends_as_one_that_was_not(
    step: int, tmp_path: Path, everything: Any, undisturbed: TrainingRun
) -> None:
    run = everything(tmp_path)
    assert run.fork(signal_at(signal.SIGKILL, lambda e: isinstance(e, Step) and e.step == step)) == signal.SIGKILL
    run.trained()
    assert run.result() == undisturbed.result()
    assert run.history() == undisturbed.history()
    assert divergences(run) == divergences(undisturbed)
    assert all(found is not None and found >= -1e-6 for found in divergences(run).values()), divergences(run)


@pytest.mark.heavy
def test_two_processes_train_with_every_lever_on_what_one_trains(
    tmp_path: Path, everything: Any, undisturbed: TrainingRun
) -> None:
    """Each has a part of the divergence, and scores the average that rank 0 saves."""
    run = everything(tmp_path, "train.devices=2")
    assert train_on(2, run) == {0: 0, 1: 0}, run.log
    assert divergences(run) == divergences(undisturbed)
    assert run.history()["intervals"] == undisturbed.history()["intervals"]
    assert {one.name: one.sets for one in scored(run)} == {one.name: one.sets for one in scored(undisturbed)}
    for step in (4, 8):
        ours, theirs = (load_file(one.paths.adapter(step) / WEIGHTS) for one in (run, undisturbed))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def scored(run: TrainingRun) -> list[CandidateScored]:
    return [one.event for one in run.records if isinstance(one.event, CandidateScored)]
