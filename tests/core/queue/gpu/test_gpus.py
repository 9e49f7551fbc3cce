"""Which GPU a trainer gets: the choice, what NVML says (FakeNvml), and supervisor processes with FakeTrainers."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nvml_file import FakeNvml
from plan_folder import PlanFolder

from core.queue.gpu.available import AvailableGpus
from core.queue.gpu.choice import GIB, Choice, Devices, Gpu, choose_gpu, visible
from core.queue.gpu.nvml import NvmlReader
from core.queue.journal import Journal

A = Gpu("GPU-aaaa1111", "GPU 0", 0, "H100", 80 * GIB, 79 * GIB)
B = Gpu("GPU-bbbb2222", "GPU 1", 1, "H100", 80 * GIB, 79 * GIB)
C = Gpu("GPU-aaaa3333", "GPU 2", 2, "H100", 80 * GIB, 79 * GIB)
PARTS = tuple(Gpu(f"MIG-{n}", f"GPU 3 MIG {n}", 3, "H100", 10 * GIB, 10 * GIB, parent="GPU-dddd4444") for n in range(2))


LOST = "GPU 0 cannot be used (GPU is lost)"


def chosen(choice: Choice) -> str | None:
    return choice.visible


def filled(gpu: Gpu, free_gib: float, *pids: int) -> Gpu:
    return replace(gpu, free=int(free_gib * GIB), holders=pids)


def test_the_gpu_with_the_most_free_memory_is_chosen() -> None:
    assert choose_gpu([filled(A, 70), filled(B, 75)], {}, None).gpus == (filled(B, 75),)
    assert choose_gpu([A, B], {}, None).gpus == (A,)
    assert choose_gpu([A, B], {A.uuid: "a-1"}, None).gpus == (B,)


def test_a_gpu_that_somebody_else_fills_is_never_chosen_and_the_reason_names_who() -> None:
    choice = choose_gpu([A, filled(B, 3.1, 4711)], {A.uuid: "2.1-0123"}, None)
    assert choice.gpus == ()
    assert choice.waits == (
        "GPU 0 trains 2.1-0123; GPU 1 has 3.1 of 80.0 GiB free, a run needs 64.0; another process (pid 4711) holds it"
    )
    later = choose_gpu([A, filled(B, 4.5, 4711)], {A.uuid: "2.1-0123"}, None)
    assert later.waits != choice.waits and later.cause == choice.cause


def test_a_run_on_several_gpus_gets_as_many_as_it_asks_for_or_none() -> None:
    assert choose_gpu([A, filled(B, 75), C], {}, None, devices=2).visible == f"{A.uuid},{C.uuid}"
    assert choose_gpu([A, B, C], {A.uuid: "a-1"}, None, devices=2).visible == f"{B.uuid},{C.uuid}"
    waits = choose_gpu([A, B, C], {A.uuid: "a-1"}, None, devices=3)
    assert (waits.visible, waits.waits) == (None, "train.devices asks for 3 GPUs, and 2 can be had: GPU 0 trains a-1")
    never = choose_gpu([A, *PARTS], {}, None, devices=2)
    assert never.waits == "train.devices asks for 2 GPUs, and this machine has 1 whole GPU"


def test_what_a_run_needs_is_said_by_the_plan() -> None:
    half = filled(A, 40, 1, 2, 3, 4)
    assert choose_gpu([half], {}, 8.0).gpus == (half,)
    assert "other processes (pids 1, 2, 3, …) hold it" in choose_gpu([half], {}, None).waits
    assert "queue.gpu_free_gb asks for 90.0" in choose_gpu([A], {}, 90.0).waits


def test_a_gpu_is_given_again_only_when_the_dead_trainers_memory_is_free() -> None:
    leaving = {A.uuid: 79 * GIB}
    assert "still freeing" in choose_gpu([filled(A, 40)], {}, 8.0, leaving).waits
    assert choose_gpu([A], {}, 8.0, leaving).gpus == (A,)


def test_a_device_that_does_not_tell_its_memory_is_taken_when_nobody_is_on_it() -> None:
    silent = replace(A, total=None, free=None)
    assert choose_gpu([silent], {}, None).gpus == (silent,)
    assert "does not tell" in choose_gpu([replace(silent, holders=(7,))], {}, None).waits


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, [A, B, C, *PARTS]),
        ("1,0", [B, A]),
        ("0,9,1", [A]),
        ("0,-1,1", [A]),
        ("0,0", [A]),
        ("GPU-bbbb", [B]),
        ("GPU-aaaa", []),
        ("GPU-aaaa3333, 1", [C, B]),
        ("MIG-1", [PARTS[1]]),
        ("GPU-dddd4444", [PARTS[0]]),
        ("3", [PARTS[0]]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_only_gpus_that_the_supervisor_was_given_are_used(wanted: str | None, expected: list[Gpu]) -> None:
    found = visible([A, B, C, *PARTS], wanted)
    assert list(found.gpus) == expected
    assert bool(found.note) == (not expected)


def test_indices_of_different_gpus_are_refused_unless_their_order_is_known() -> None:
    mixed = [A, replace(B, product="T4")]
    assert "UUIDs" in visible(mixed, "1").unusable
    assert visible(mixed, "1", by_bus=True).gpus == (mixed[1],)
    assert visible(mixed, "GPU-bbbb").gpus == (mixed[1],)


@pytest.fixture
def read(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Devices]:
    path = Path(__file__).parents[1] / "fake_nvml" / "pynvml.py"
    spec = importlib.util.spec_from_file_location("pynvml", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", module)
    return NvmlReader(torch=lambda: "2.13.0", device_folder=nvml.path.parent).read


def test_the_fake_has_no_name_that_the_package_has_not() -> None:
    import pynvml

    fake = ast.parse((Path(__file__).parents[1] / "fake_nvml" / "pynvml.py").read_text())
    names = [node.name for node in fake.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert len(names) > 10 and not [name for name in names if not name.startswith("_") and not hasattr(pynvml, name)]


def test_what_nvml_tells(read: Callable[[], Devices], nvml: FakeNvml) -> None:
    nvml.add("GPU-a", 3, name="H100", pids=[9, 4], busy=87)
    nvml.add("GPU-b", mig=[{"uuid": "MIG-x", "total": 10 * GIB, "free": GIB}, {"uuid": "MIG-y", "total": None}])
    nvml.add("GPU-c", lost=True)
    assert read().gpus == (
        Gpu("GPU-a", "GPU 0", 0, "H100", 80 * GIB, 3 * GIB, (4, 9), busy_percent=87),
        Gpu("MIG-x", "GPU 1 MIG 0", 1, "FakeGpu", 10 * GIB, GIB, parent="GPU-b"),
        Gpu("MIG-y", "GPU 1 MIG 1", 1, "FakeGpu", None, None, parent="GPU-b"),
    )


def test_without_nvml_there_is_the_cpu_and_with_gpu_files_it_says_so(
    read: Callable[[], Devices], nvml: FakeNvml
) -> None:
    nvml.error = "Driver/library version mismatch"
    nvml.write()
    said = "no GPU: NVML does not answer (Driver/library version mismatch)"
    assert read() == Devices(note=said, only_cpu=True)
    (nvml.path.parent / "nvidia0").touch()
    assert "whatever PyTorch finds" in read().note and not read().unusable
    assert not read().only_cpu


def test_gpus_that_vanish_make_the_queue_wait_and_not_train_on_the_cpu(
    read: Callable[[], Devices], nvml: FakeNvml
) -> None:
    nvml.add("GPU-a")
    assert read().gpus
    nvml.error = "Unknown Error"
    nvml.write()
    assert read().unusable and not read().gpus
    nvml.error = ""
    nvml.write()
    assert read().gpus
    nvml.change("GPU-a", lost=True)
    assert read().unusable == "no GPU answers any more (GPU 0: GPU is lost)"


def test_a_gpu_that_is_kept_from_us_leaves_the_choice_to_pytorch(
    read: Callable[[], Devices], nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # the first of those that we may use
    nvml.add("GPU-a", denied=True)
    nvml.add("GPU-b")
    (nvml.path.parent / "nvidia0").touch()
    assert "whatever PyTorch finds" in read().note and not read().unusable
    assert not read().only_cpu


@pytest.fixture
def choose(read: Callable[[], Devices], folder: PlanFolder) -> Callable[[], Choice]:
    """Where a supervisor's next trainer would run."""
    places = AvailableGpus(folder.runs, Journal(folder.runs.decisions), read)
    return lambda: places.choose({}, None)


@pytest.mark.parametrize("wanted", ["0", "GPU-a"])
def test_a_lost_gpu_is_waited_for_and_not_replaced_by_the_cpu(
    choose: Callable[[], Choice], nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, folder: PlanFolder, wanted: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    nvml.add("GPU-a")
    nvml.add("GPU-b")
    assert chosen(choose()) == "GPU-a"
    nvml.change("GPU-a", lost=True)
    assert choose() == Choice(waits=LOST, cause=LOST)
    assert [(d.gpus, d.note) for d in folder.decisions("devices")] == [
        ({"GPU-a": "GPU 0"}, ""),
        ({}, LOST),
    ]
    nvml.change("GPU-a", lost=False)
    assert chosen(choose()) == "GPU-a"


@pytest.mark.parametrize("wanted", ["0", "GPU-a"])
def test_a_gpu_that_was_lost_before_the_supervisor_came_is_waited_for_too(
    choose: Callable[[], Choice], nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    nvml.add("GPU-a", lost=True)
    nvml.add("GPU-b")
    assert choose().waits == LOST
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    assert chosen(choose()) == "GPU-b"


@pytest.mark.parametrize("wanted", [None, "0,1", "GPU-a,GPU-b"])
@pytest.mark.parametrize("trouble", [{"lost": True}, {"error": "GPU requires reset"}])
@pytest.mark.parametrize("seen", [True, False])
def test_the_others_are_used_while_one_gpu_is_in_trouble(
    choose: Callable[[], Choice],
    nvml: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str | None,
    trouble: dict[str, Any],
    seen: bool,
) -> None:
    if wanted is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    nvml.add("GPU-a")
    nvml.add("GPU-b", 78)
    if seen:
        assert chosen(choose()) == "GPU-a"
    nvml.change("GPU-a", **trouble)
    assert chosen(choose()) == "GPU-b"
    nvml.change("GPU-b", free=GIB)
    assert f"GPU 0 cannot be used ({trouble.get('error', 'GPU is lost')})" in choose().waits
    assert "GPU 1 has 1.0 of 80.0 GiB free" in choose().waits


def test_visible_gpus_that_are_not_even_counted_any_more_make_the_queue_wait(
    choose: Callable[[], Choice], nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    nvml.add("GPU-a")
    nvml.add("GPU-b")
    assert chosen(choose()) == "GPU-b"
    nvml.gpus.pop()
    nvml.write()
    assert choose().waits == "the GPUs that CUDA_VISIBLE_DEVICES names are gone"


def test_who_asked_for_the_cpu_has_it_whatever_becomes_of_the_gpus(
    choose: Callable[[], Choice], nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    nvml.add("GPU-a")
    assert choose() == Choice()
    nvml.change("GPU-a", lost=True)
    assert choose() == Choice()


def test_a_cpu_build_of_pytorch_uses_no_gpu(nvml: FakeNvml) -> None:
    nvml.add("GPU-a")
    assert NvmlReader(torch=lambda: "2.13.0+cpu").read().gpus == ()
