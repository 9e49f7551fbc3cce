"""What keeps an adapter near the base model while it is trained, and the moving average that an interval may ship.

`train.kl`: on replay speech the base model, which is the network with its adapter switched off, is heard as well, and
the step minimises loss + kl * (nats by which the adapter's outputs diverge from the base's, for each target unit).

`train.decay_to_base`: before each update every layer's change W - W0 of the base weights W0 is made smaller by a share.

`train.ema`: the mean of the adapter over the steps so far, the later ones counting more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from core.training.adapter import TRAINED, adapted_layers
from core.training.families.base import SpeechModel
from core.training.loss import summed_divergence


@contextmanager
def base_alone(speech: SpeechModel) -> Iterator[None]:
    """The network computes as the base model does, without gradients; afterwards with its adapter, as it was."""
    # peft switches gradients off and on with the adapters, also those that were off before
    trained = [(parameter, parameter.requires_grad) for parameter in speech.network.parameters()]
    try:
        speech.network.base_model.disable_adapter_layers()
        with torch.no_grad():
            yield
    finally:
        speech.network.base_model.enable_adapter_layers()
        for parameter, wanted in trained:
            parameter.requires_grad_(wanted)


def loss_and_divergence(
    speech: SpeechModel,
    features: Mapping[str, Tensor],
    languages: Sequence[str | None],
    targets: Sequence[Sequence[int]],
    replay: int,
) -> tuple[Tensor, Tensor | None]:
    """The summed loss of a batch, and the summed divergence from the base model on its last `replay` rows, in nats.

    The divergence is None without such rows. The base model hears the same features, and comes first: of it only its
    logits stay. Both tell no place of padding.
    """
    if not replay:
        return speech.summed_loss(speech.encode(dict(features), languages), targets), None
    with base_alone(speech):
        heard = {name: tensor[-replay:] for name, tensor in features.items()}
        base = speech.predicted(speech.encode(heard, languages[-replay:]), targets[-replay:])
    now = speech.predicted(speech.encode(dict(features), languages), targets)
    return speech.loss_of(now, targets), summed_divergence(base, now.last(replay))


@torch.no_grad()
def pull_to_base(speech: SpeechModel, share: float) -> None:
    """Take `share` of every layer's change away: W becomes W0 + (1 - share) (W - W0), of effective weights W.

    With share = learning rate * `train.decay_to_base` this is the decay of AdamW (Loshchilov & Hutter 2019, "Decoupled
    weight decay regularization") towards the base model instead of zero, the L2-SP of Li, Grandvalet & Davoine (2018),
    "Explicit inductive bias for transfer learning with convolutional networks". It is not a decay of A and B each,
    which would shrink their product by other shares, and DoRA's lengths of rows to zero instead of the base's.

    LoRA, rsLoRA: W - W0 = s B A, so that B alone is made smaller. DoRA: W = g o (W0 + s B A) with g = m / |W0 + s B A|
    is brought to the wanted weights exactly by rows of B and new lengths m, as an interpolation with the base is
    (`core.training.candidates`).
    """
    from peft.utils.integrations import dequantize_module_weight

    keep = 1.0 - share
    for _, layer in adapted_layers(speech.network):
        a, b = layer.lora_A[TRAINED].weight, layer.lora_B[TRAINED].weight
        if TRAINED not in layer.lora_magnitude_vector:
            b.mul_(keep)
            continue
        weight: Any = dequantize_module_weight(layer.get_base_layer()).float()
        lengths, scale = layer.lora_magnitude_vector[TRAINED].weight, layer.scaling[TRAINED]
        factor = lengths / (weight + scale * (b @ a)).norm(dim=1)
        row = 1 + keep * (factor - 1)
        b.mul_((keep * factor / row)[:, None])
        lengths.copy_(row * (weight + scale * (b @ a)).norm(dim=1))


class MovingAverage:
    """An exponential moving average of parameters, which begins with what they are: decay * before + (1 - decay) * now.

    Of the factors A and B each, and not of their product: what it gives is an adapter of the same rank.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self.tensors = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        """Of the average, by the parameters' names; a resumed run puts back here what its checkpoint has."""

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        for name, parameter in self._parameters.items():
            self.tensors[name].lerp_(parameter, 1.0 - self._decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters are the average meanwhile; afterwards they are what they were, to the bit."""
        own = {name: parameter.data for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                parameter.data = self.tensors[name]
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = own[name]
