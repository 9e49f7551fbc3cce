"""Fixtures that several folders of tests share."""

from __future__ import annotations

import fcntl
import gc
import importlib.util
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from fake_run import FakeRun
    from training_kit import TrainingRun

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
WHOLE_DIGITS = ROOT.parent / "shared" / "speech" / "digits"
"""All 3,000 clips of which tests/data/digits has 60. What needs them is skipped where they are not."""


# The same cases on every run and no limit of time: a test fails because of a change, not by chance.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Torch, textual and 5,000 tests stay in memory: the garbage collector is spared to look through them again and again,
# which takes a third of the time of tests that make many objects.
gc.disable()


def pytest_collection_finish() -> None:
    """From here on, garbage is collected among what tests make."""
    gc.freeze()
    gc.enable()


# A shell's background job ignores these, and every process that a test starts and interrupts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


KITS = (
    "waiting",
    "forked_trainer",
    "training_kit",
    "ranks_kit",
    "tiny_prompted",
    "event_file",
    "evidence_kit",
    "score_kit",
    "plan_kit",
    "lora_cli_kit",
    "hub_kit",
    "model_folder",
    "ctc_kit",
    "family_kit",
    "privileges",
    "core/queue/plan_folder",
    "core/queue/queue_scene",
    "core/queue/nvml_file",
    "core/queue/slurm_kit",
    "core/runs/fake_run",
    "lora_tui/queue_face",
    "lora_tui/trained_checkout",
    "lora_tui/dashboard/eyes",
    "lora_tui/dashboard/key_tours",
    "lora_tui/dashboard/recorded",
    "lora_tui/dashboard/terminal",
)
"""What several tests share. Tests import each by its name alone."""


class KitFinder(MetaPathFinder):
    """Finds tests/<kit>.py by its name alone, without any folder of tests on the import path."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        kit = next((kit for kit in KITS if kit.rpartition("/")[2] == fullname), None)
        file = Path(__file__).parent / f"{kit}.py"
        return None if kit is None else importlib.util.spec_from_file_location(fullname, file)


sys.meta_path.insert(0, KitFinder())


def _common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of this session, which the workers of pytest-xdist share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def _once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """What `make` gives for a folder called `name`, made by the first worker that wants it, read by the others."""
    folder = _common(tmp_path_factory) / name
    made = folder.with_suffix(".pickle")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_bytes(pickle.dumps(make(folder)))
    result: T = pickle.loads(made.read_bytes())  # noqa: S301 - our own
    return result


@pytest.fixture(scope="session", autouse=True)
def own_state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of a test is kept in the state folder of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        home = _common(tmp_path_factory) / "state-home"
        home.mkdir(exist_ok=True)
        patch.setenv("XDG_STATE_HOME", str(home))
        yield


@pytest.fixture(scope="session")
def digits() -> Path:
    """The folder of real spoken digits: 60 clips of six people in four manifests (tests/data/digits/README.md)."""
    return ROOT / "tests" / "data" / "digits"


@pytest.fixture(scope="session")
def whole_digits() -> Path:
    """The same four manifests whole, for what cannot be seen on a few clips."""
    if not WHOLE_DIGITS.is_dir():
        pytest.skip("needs all 3,000 clips of the digits in ../shared/speech/digits")
    return WHOLE_DIGITS


@pytest.fixture(scope="session")
def base_model() -> Path:
    """A small Moonshine that was trained on digits: WER 9 % on their whole heldout set."""
    return ROOT / "tests" / "data" / "digits" / "model"


@pytest.fixture(scope="session")
def tiny_moonshine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import training_kit

    return _once(tmp_path_factory, "tiny-moonshine", training_kit.tiny_moonshine)


@pytest.fixture(scope="session")
def quick_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests of made-up speech, with odd clips among them."""
    import training_kit

    return _once(tmp_path_factory, "quick-sets", training_kit.quick_sets)


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> TrainingRun:
    """A whole run of a tiny model. Nobody may change it."""
    import training_kit

    def make(folder: Path) -> TrainingRun:
        return training_kit.TrainingRun(folder, tiny_moonshine, quick_sets, *training_kit.QUICK).trained()

    return _once(tmp_path_factory, "finished", make)


@pytest.fixture(scope="session")
def finished_on_two(
    tmp_path_factory: pytest.TempPathFactory, tiny_moonshine: Path, quick_sets: dict[str, Path]
) -> TrainingRun:
    """The same run on two devices. Nobody may change it."""
    import ranks_kit
    import training_kit

    def make(folder: Path) -> TrainingRun:
        settings = (*training_kit.QUICK, "train.devices=2")
        run = training_kit.TrainingRun(folder, tiny_moonshine, quick_sets, *settings)
        assert set(ranks_kit.train_on(2, run).values()) == {0}, run.log
        return run

    return _once(tmp_path_factory, "finished_on_two", make)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory, digits: Path, base_model: Path) -> TrainingRun:
    """The trained base model with a DoRA adapter that a few steps on real speech have moved. Nobody may change it."""
    import training_kit

    sets = {name: digits / f"{name}_manifest.jsonl" for name in ("train", "replay", "domain", "heldout")}
    settings = (
        "train.steps=8",
        "train.eval_every=4",
        "train.batch_seconds=20",
        "train.replay_share=0.3",
        "train.learning_rate=0.002",
        "train.allow_high_learning_rate=true",
        'adapter.target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]',
        "gate.stability_min_steps=0",
    )

    def make(folder: Path) -> TrainingRun:
        return training_kit.TrainingRun(folder, base_model, sets, *settings).trained()

    return _once(tmp_path_factory, "digits", make)


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import training_kit

    return _once(tmp_path_factory, "tiny-whisper", training_kit.tiny_whisper)


@pytest.fixture(scope="session")
def tiny_streaming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import training_kit

    return _once(tmp_path_factory, "tiny-streaming", training_kit.tiny_streaming)


@pytest.fixture
def fake_run(tmp_path: Path) -> Callable[..., FakeRun]:
    """`fake_run(name="2.1-0123456789", steps=1000)` makes a run folder that holds run.json only."""

    from fake_run import FakeRun

    def make(name: str = "2.1-0123456789", steps: int = 1000) -> FakeRun:
        return FakeRun(tmp_path / "runs" / name, steps)

    return make
