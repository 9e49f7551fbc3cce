"""`train.deterministic` on each model family: has all it does a deterministic kernel, and are the bits the same?

    python -m benchmarks.gpu_checks.architectures cuda|cpu

Random networks of the true architectures, LoRA and DoRA with dropout, fp32 and bf16 steps, through the trainer's own
parts. Prints one JSON object: case → what is wrong, or nothing. A process of its own: cuBLAS reads its workspace once.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from core.errors import ModelError
from core.plan.families import family_of
from core.plan.schema import AdapterSettings
from core.training.adapter import attach, trainable
from core.training.determinism import deterministic_kernels, prepare_cuda, seed_step, steady_kernels
from core.training.families import family_class
from core.training.families.base import Limits

STEPS = 3
CLIPS = {"cuda": 6, "cpu": 1}
SAMPLES = 32_000
_TOKENS = 64
_HIDDEN, _LAYERS, _HEADS = 128, 2, 4


def moonshine() -> tuple[Any, Callable[[int], dict[str, torch.Tensor]]]:
    """A network, and what gives it so many clips to hear."""
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration

    config = MoonshineConfig(
        vocab_size=_TOKENS,
        hidden_size=_HIDDEN,
        intermediate_size=2 * _HIDDEN,
        **dict.fromkeys(("encoder_num_hidden_layers", "decoder_num_hidden_layers"), _LAYERS),
        **dict.fromkeys(("encoder_num_attention_heads", "decoder_num_attention_heads"), _HEADS),
    )
    return MoonshineForConditionalGeneration(config), _waves


def moonshine_streaming() -> tuple[Any, Callable[[int], dict[str, torch.Tensor]]]:
    """As `moonshine`."""
    from transformers import MoonshineStreamingConfig, MoonshineStreamingForConditionalGeneration

    sizes = {"hidden_size": _HIDDEN, "intermediate_size": 2 * _HIDDEN}
    sizes |= dict.fromkeys(("num_attention_heads", "num_key_value_heads"), _HEADS)
    config = MoonshineStreamingConfig(
        encoder_config=sizes | {"num_hidden_layers": _LAYERS, "sliding_windows": [[16, 4], [16, 0]]},
        num_hidden_layers=_LAYERS,
        vocab_size=_TOKENS,
        **sizes,
    )
    return MoonshineStreamingForConditionalGeneration(config), _waves


def whisper() -> tuple[Any, Callable[[int], dict[str, torch.Tensor]]]:
    """As `moonshine`; with SpecAugment and layers that are skipped at random."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=_TOKENS,
        d_model=_HIDDEN,
        **dict.fromkeys(("encoder_layers", "decoder_layers"), _LAYERS),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), _HEADS),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 2 * _HIDDEN),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 2),
        decoder_start_token_id=1,
        apply_spec_augment=True,
        mask_feature_prob=0.1,
        decoder_layerdrop=0.1,
    )
    return WhisperForConditionalGeneration(config), lambda clips: {"input_features": torch.randn(clips, 80, 3000)}


def _waves(clips: int) -> dict[str, torch.Tensor]:
    mask = torch.ones(clips, SAMPLES, dtype=torch.long)
    for row in range(clips):
        mask[row, SAMPLES - 1600 * row :] = 0
    return {"input_values": 0.05 * torch.randn(clips, SAMPLES) * mask, "attention_mask": mask}


FAMILIES = (moonshine, moonshine_streaming, whisper)


def trained(family: Callable[[], Any], method: str, precision: str, device: torch.device) -> str:
    """SHA-256 of the adapter after `STEPS` deterministic steps. ModelError: there is an operation that cannot be."""
    torch.manual_seed(0)
    network, hear = family()
    clips = CLIPS[device.type]
    network.eval().requires_grad_(False).to(device)
    facts = family_of(family.__name__)
    assert facts is not None
    family_class(facts).prepare(network)
    speech = family_class(facts)(
        network=network,
        processor=SimpleNamespace(tokenizer=None),
        facts=facts,
        limits=Limits(25.0, 100, 30.0),
        device=device,
        precision=precision,
    )
    targets = ("q_proj", "v_proj", "fc1")
    speech = attach(speech, AdapterSettings(method, rank=4, dropout=0.1, target_modules=targets), seed=0)
    parameters = trainable(speech)
    optimiser = torch.optim.AdamW(list(parameters.values()), lr=1e-3)
    labels = [torch.randint(3, _TOKENS, (4 + row,)).tolist() for row in range(clips)]
    heard = {name: tensor.to(device) for name, tensor in hear(clips).items()}
    speech.network.train()
    for step in range(1, STEPS + 1):
        seed_step(0, step)
        with deterministic_kernels(True):
            with speech.autocast():
                loss = speech.summed_loss(speech.encode(heard), labels)
            (loss / sum(map(len, labels))).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    state = b"".join(p.detach().cpu().numpy().tobytes() for p in parameters.values())
    return hashlib.sha256(state).hexdigest() if all(p.isfinite().all() for p in parameters.values()) else "not finite"


def main() -> int:
    """Each case twice."""
    prepare_cuda()
    steady_kernels()
    device = torch.device(sys.argv[1])
    told: dict[str, str] = {}
    for family in FAMILIES:
        for method in ("lora", "dora"):
            for precision in ("fp32", "bf16"):
                try:
                    first, second = (trained(family, method, precision, device) for _ in range(2))
                    wrong = first if first == "not finite" else "" if first == second else "other bits the second time"
                except (ModelError, RuntimeError) as error:
                    wrong = " ".join(str(error).split())[:300]
                told[f"{family.__name__} {method} {precision}"] = wrong
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
