"""What a device does with each model family: are deterministic steps the same bits, does a reduced base still train?

    python -m benchmarks.gpu_checks.architectures cuda|cpu WORK

The families are those of the tests (`tests/family_kit.py: TINY`), random networks of the true architectures: a family
is here by its registration. Each is loaded as the trainer loads it, gets LoRA in fp32 steps and DoRA in bf16 steps,
with dropout, and then a base in bf16 and one in 8 bits. Prints one JSON object: case → what is wrong, or nothing, or
`skipped: ` and why. A process of its own: cuBLAS reads its workspace once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.kill_matrix.material import ROOT
from core.audio.samples import SAMPLE_RATE_HZ
from core.plan.schema import AdapterSettings
from core.training.adapter import attach, set_training_mode, trainable
from core.training.determinism import deterministic_kernels, prepare_cuda, seed_step, steady_kernels
from core.training.families.base import SpeechModel
from core.training.memory import reduce_modules, whole_modules
from core.training.model import load_model

STEPS = 3
TEXTS = ("one two three", "four", "five six seven eight", "nine zero")
CLOSE = {"bf16": 0.05, "8bit": 0.1}
"""By how much of itself a loss may change with a reduced base, on random weights."""
STEPS_OF = (("lora", "fp32"), ("dora", "bf16"))
SKIPPED = "skipped: "


def clips() -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Noise of one second and more, of several lengths."""
    random = np.random.default_rng(0)
    seconds = (1.5, 1.0, 2.0, 1.2)
    return [(0.05 * random.standard_normal(int(s * SAMPLE_RATE_HZ))).astype(np.float32) for s in seconds]


def with_adapter(folder: Path, language: str | None, method: str, precision: str, device: torch.device) -> SpeechModel:
    """The model in a folder, ready to be trained."""
    speech = load_model(str(folder), device=device, precision=precision, language=language)
    settings = AdapterSettings(method, rank=4, dropout=0.1, target_modules=("attention", "mlp"))
    return attach(speech, settings, seed=0)


def loss_of(speech: SpeechModel) -> torch.Tensor:
    """Nats a unit, over all clips."""
    labels = [speech.targets(text) for text in TEXTS]
    features = speech.features(clips())
    with speech.autocast():
        total = speech.summed_loss(speech.encode(features), labels)
    return total / sum(map(len, labels))


def trained(speech: SpeechModel) -> str:
    """SHA-256 of the adapter after `STEPS` deterministic steps. ModelError: there is an operation that cannot be."""
    parameters = trainable(speech)
    optimiser = torch.optim.AdamW(list(parameters.values()), lr=1e-3)
    set_training_mode(speech)
    for step in range(1, STEPS + 1):
        seed_step(0, step)
        with deterministic_kernels(True):
            loss_of(speech).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    state = b"".join(p.detach().cpu().numpy().tobytes() for p in parameters.values())
    return hashlib.sha256(state).hexdigest() if all(p.isfinite().all() for p in parameters.values()) else "not finite"


def same_bits(make: Callable[[], SpeechModel]) -> str:
    """What is wrong when the same steps are made twice."""
    first, second = trained(make()), trained(make())
    return first if first == "not finite" else "" if first == second else "other bits the second time"


def reduced(speech: SpeechModel, kind: str) -> str:
    """What is wrong with a step on a base in bf16 or in 8 bits."""
    if kind == "8bit" and importlib.util.find_spec("bitsandbytes") is None:
        return f"{SKIPPED}bitsandbytes is not installed"
    speech.network.eval()
    with torch.no_grad():
        whole = float(loss_of(speech))
    reduce_modules(speech.network, kind)
    if not whole_modules(speech.network):
        return "nothing of its base was reduced"
    loss = loss_of(speech)
    loss.backward()  # type: ignore[no-untyped-call]
    found = float(loss.detach())
    gradients = [p.grad for p in trainable(speech).values() if p.grad is not None]
    if not gradients or not all(bool(gradient.isfinite().all()) for gradient in gradients):
        return f"{len(gradients)} gradients, not all finite"
    apart = abs(found - whole) / whole
    return "" if apart <= CLOSE[kind] else f"loss {found:.4f} instead of {whole:.4f}, {apart:.1%} apart"


def told(deed: Callable[[], str]) -> str:
    """What it says, or what it raised."""
    try:
        return deed()
    except Exception as error:  # whatever a device raises
        return " ".join(str(error).split())[:300] or type(error).__name__


def checked(folder: Path, name: str, language: str | None, device: torch.device) -> dict[str, str]:
    """All cases of one family, by name."""

    def make(method: str, precision: str) -> SpeechModel:
        return with_adapter(folder, language, method, precision, device)

    found = {
        f"{name}: {method} in {precision}": told(lambda m=method, p=precision: same_bits(lambda: make(m, p)))  # type: ignore[misc]
        for method, precision in STEPS_OF
    }
    for kind in CLOSE:
        found[f"{name}: base in {kind}"] = told(lambda kind=kind: reduced(make("lora", "bf16"), kind))  # type: ignore[misc]
    return found


def rows(told: Mapping[str, str]) -> Iterator[tuple[str, str, str, bool | None]]:
    """Rows of the table: deterministic steps of every family, and each kind of a reduced base."""
    for what, ends, limit in (
        ("a. deterministic steps of every family", tuple(f"{m} in {p}" for m, p in STEPS_OF), "the same bits"),
        *(
            (f"h. every family, base in {kind}", (f"base in {kind}",), f"loss within {close:.0%} of fp32's")
            for kind, close in CLOSE.items()
        ),
    ):
        cases = {case: wrong for case, wrong in told.items() if case.endswith(ends)}
        skipped = [wrong for wrong in cases.values() if wrong.startswith(SKIPPED)]
        wrong = "; ".join(f"{case}: {why}" for case, why in cases.items() if why and not why.startswith(SKIPPED))
        none = not cases or len(skipped) == len(cases)
        text = wrong or (f"{len(cases)} cases" if not none else next(iter(skipped), "no case"))
        more = f"; {len(skipped)} skipped: {skipped[0].removeprefix(SKIPPED)}" if skipped and not none else ""
        yield what, text + more, limit, None if none else not wrong


def main() -> int:
    """Each case of each family."""
    sys.path.insert(0, str(ROOT / "tests"))
    from family_kit import TINY  # type: ignore[import-not-found]

    prepare_cuda()
    steady_kernels()
    device, work = torch.device(sys.argv[1]), Path(sys.argv[2])
    found: dict[str, str] = {}
    for name, tiny in TINY.items():
        folder = work / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            tiny.build(folder)
        except ImportError as error:  # some versions of transformers need more for a family
            found[name] = f"{SKIPPED}{' '.join(str(error).split())[:120]}"
            continue
        found |= checked(folder, name, tiny.language, device)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
