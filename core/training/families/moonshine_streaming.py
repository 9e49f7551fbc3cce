"""Moonshine streaming, whose causal convolutions let a clip have frames of its padding in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from core.training.families.base import Samples
from core.training.families.moonshine import Moonshine

FRAME_SAMPLES = 80
"""Samples of a frame, 5 ms."""
LEAST_SAMPLES = 1280
"""Shorter clips are followed by silence."""


def _own_frames(conv: Any, args: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> Any:
    """Forward hook of the convolutions.

    transformers keeps every output frame whose window touches the clip: after both convolutions up to three more than
    the clip has alone. Its own are those whose window *ends* in the clip.
    """
    mask = args[1] if len(args) > 1 else None
    if mask is None:
        return None
    own = mask[:, :: conv.stride[0]]
    return output[0] * own[:, None, :], own


@dataclass(kw_only=True, eq=False)
class MoonshineStreaming(Moonshine):
    """Raw samples in, as whole frames of 5 ms."""

    @classmethod
    def prepare(cls, network: Any) -> None:
        """Make it hear clips without their padding."""
        embedder = network.model.encoder.embedder
        embedder.conv1.register_forward_hook(_own_frames)
        embedder.conv2.register_forward_hook(_own_frames)

    def features(self, clips: Sequence[Samples]) -> dict[str, Tensor]:
        """The samples, to the length that its own processor pads to."""
        return self._raw(clips, multiple=FRAME_SAMPLES, minimum=LEAST_SAMPLES)


FAMILY = MoonshineStreaming
