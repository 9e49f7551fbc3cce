"""How much memory a run's training will take at its peak, told from the model's files, the manifests and the settings.

The figures come from the shapes of the model's layers: what the backward pass needs of a layer is about what the layer
puts out. Measured peaks are compared with the forecast by `python -m benchmarks.memory` (docs/adapters.md, "Memory").
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.errors import UserError
from core.plan.fits import clip_count, left_out, seconds_per_step
from core.plan.schema import RunSettings
from core.plan.targets import Shape, is_output
from core.runs.adapter_size import AdaptedModel, adapted_model
from core.runs.preflight import Clip, clips_of, hears, replay_seconds_share

_FLOAT = 4
RUNTIME_BYTES = 480 << 20
"""PyTorch, transformers and peft in a trainer on a CPU, without a model. The context of a GPU is of this size."""
_TAKEN = 1.4
"""Bytes that are taken for each that is kept: allocators round up, and what is freed between two that stay is lost."""
_PASSING = {"frozen": 4, "adapted": 8}
"""Layers of the encoder, by what its linear layers put out, that are taken on a CPU besides what is kept: its passing
results, which the process does not give back. A GPU's allocator takes them up again (not measured): as if frozen."""
_TRAINED_BYTES = 4 * _FLOAT
"""A trained weight, its gradient and AdamW's two moments."""
_KEPT = 1.25
"""Floats that a layer keeps for the backward pass at each position, by those that its linear layers put out."""
_DORA_KEPT = 2.0
"""As many again for each number that a layer with DoRA puts out: the base's output and the update's."""
_LOGIT_FLOATS = 4
"""Of each token and vocabulary entry: logits, their logarithms and the gradients of both."""
_BYTES_OF_A_TOKEN = 3.0
"""Of text in UTF-8, rather fewer than most vocabularies need."""
_AUDIO_TOKENS_PER_SECOND = 12.5
"""Positions that sound takes in the decoder of a language model that hears."""
_CROSS = re.compile(r"(^|[._])(encoder_attn|cross_attn|crossattention|encdec_attn)[._]")
_NUMBER = re.compile(r"\.(\d+)\.")
_BITS = {"fp32": 32, "bf16": 16, "8bit": 8}


@dataclass(frozen=True, slots=True)
class MemoryForecast:
    """Bytes, at the step with the longest clips and at an evaluation. On several GPUs, of each of them."""

    model: int
    """The base's weights in training steps."""
    adapter: int
    """Weights of the adapter, their gradients, moments and moving average."""
    step: int
    """What a step keeps for its backward pass."""
    evaluation: int
    """What an evaluation takes besides the model: merged weights, and one batch."""
    total: int
    """At the peak, with the libraries."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """The most that is computed on at once."""

    clips: int
    seconds: float
    """Of each clip, padded."""
    tokens: int
    """Of each transcript."""


def memory_forecast(settings: RunSettings, *, on_cpu: bool = True) -> MemoryForecast | None:
    """`settings`: resolved, with absolute paths. None where the model or the manifests do not tell.

    `on_cpu`: all devices of a run are processes that share this machine's memory.
    """
    model = adapted_model(settings)
    batches = None if model is None else _batches(settings, model)
    if model is None or batches is None:
        return None
    train, evaluation = batches
    bits = _BITS[settings.train.base_precision]
    linear = sum(map(_size, model.linear.values()))
    base = model.weights * _FLOAT - linear * (32 - bits) // 8
    average = model.trained if settings.train.ema > 0 else 0
    adapter = _TRAINED_BYTES * model.trained + _FLOAT * (model.saved - model.trained + average)
    encoder = _Stack(model, model.facts.encoder)
    passing = _PASSING["adapted" if encoder.adapted and on_cpu else "frozen"]
    step = _FLOAT * int(_TAKEN * _step_floats(settings, model, train) + passing * _one_layer(model, train))
    targeted = sum(_size(model.linear[name]) for name in model.ranks if name in model.linear)
    whole = 0 if bits == 32 else linear
    held = _TAKEN * _evaluation_floats(model, evaluation) + _PASSING["frozen"] * _one_layer(model, evaluation)
    scored = _FLOAT * (targeted + whole + int(held))
    processes = settings.train.devices if on_cpu else 1
    total = RUNTIME_BYTES + base + adapter + max(step, scored)
    return MemoryForecast(*(processes * size for size in (base, adapter, step, scored, total)))


def _size(shape: Shape) -> int:
    return shape.outputs * shape.inputs


def _batches(settings: RunSettings, model: AdaptedModel) -> tuple[_Batch, _Batch] | None:
    """The largest micro-batch of training, and a batch of an evaluation."""
    data, train = settings.data, settings.train
    heard = hears(model.folder)
    share = train.replay_share if data.replay else 0.0
    taken: dict[str, list[Clip]] = {"train": [], "replay": []}
    for name in taken:
        try:
            found = clips_of(data, name) if name == "train" or share else ()
        except (UserError, OSError):
            return None
        taken[name] = [clip for clip in found if left_out(clip.seconds, clip.text, data, heard) is None]
    if not taken["train"]:
        return None
    share = replay_seconds_share(train, taken["train"], taken["replay"])
    lengths = [clip.seconds for clip in taken["train"]]
    each = seconds_per_step(math.fsum(lengths), train.steps, train.epochs, train.batch_seconds, share)
    clips = 0
    for name, seconds in (("train", each), ("replay", each * share / (1.0 - share))):
        if taken[name] and seconds > 0:
            micro = clip_count([clip.seconds for clip in taken[name]], seconds * train.steps)
            clips += math.ceil(micro / (train.steps * train.accumulation))
    everything = [*taken["train"], *taken["replay"]]
    longest = max(clip.seconds for clip in everything)
    padded = model.facts.encoder_seconds(longest, heard)
    evaluated = max(1, int(train.eval_batch_seconds / padded))
    tokens = max(_tokens(clip.text) for clip in everything)
    return _Batch(clips, padded, tokens), _Batch(evaluated, padded, tokens)


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode()) / _BYTES_OF_A_TOKEN) + 2


def _step_floats(settings: RunSettings, model: AdaptedModel, batch: _Batch) -> int:
    """What the backward pass needs of the layers behind the first one with an adapter."""
    encoder, decoder = (_Stack(model, prefix) for prefix in (model.facts.encoder, model.facts.decoder))
    frames = batch.clips * math.ceil(batch.seconds * model.frames_per_second)
    written = batch.clips * (batch.tokens + (0 if decoder.cross else _heard_in_decoder(model, batch)))
    dora = settings.adapter.method == "dora"
    again = settings.train.gradient_checkpointing
    floats = encoder.kept(frames, dora, again)
    floats += decoder.kept(written, dora, again, from_first=not encoder.adapted)
    if not again and (encoder.adapted or decoder.adapted):
        floats += decoder.kept_of_encoder(frames, dora)
    each = _LOGIT_FLOATS * (2 if settings.train.kl > 0 else 1)
    return int(floats) + batch.clips * batch.tokens * model.vocabulary * each


def _heard_in_decoder(model: AdaptedModel, batch: _Batch) -> int:
    return math.ceil(batch.seconds * _AUDIO_TOKENS_PER_SECOND) if model.facts.decoder is not None else 0


def _one_layer(model: AdaptedModel, batch: _Batch) -> float:
    """What the linear layers of the encoder's largest layer put out."""
    return batch.clips * math.ceil(batch.seconds * model.frames_per_second) * _Stack(model, model.facts.encoder).widest


def _evaluation_floats(model: AdaptedModel, batch: _Batch) -> int:
    """What the decoder keeps of the encoder's frames, and the logits of all targets."""
    frames = batch.clips * math.ceil(batch.seconds * model.frames_per_second)
    kept = frames * _Stack(model, model.facts.decoder).cross
    return kept + batch.clips * batch.tokens * model.vocabulary * _LOGIT_FLOATS


class _Stack:
    """The linear layers of the encoder or the decoder, by the layers of the model that they are in."""

    def __init__(self, model: AdaptedModel, prefix: str | None) -> None:
        self._ranks = model.ranks
        within = re.compile(prefix) if prefix is not None else None
        self._layers: dict[int, dict[str, Shape]] = {}
        for name, shape in model.linear.items():
            number = _NUMBER.search(name)
            inside = within is not None and within.match(name) is not None and not is_output(name)
            if inside and number is not None:
                self._layers.setdefault(int(number[1]), {})[name] = shape

    @property
    def adapted(self) -> bool:
        """Whether an adapter is in it."""
        return self._first is not None

    @property
    def widest(self) -> int:
        """Floats that the largest layer's linear layers put out at a position."""
        return max((_put_out(layer.values()) for layer in self._layers.values()), default=0)

    @property
    def cross(self) -> int:
        """Floats that all layers together make of a frame of the encoder."""
        return _put_out(shape for name, shape in self._all() if _of_encoder(name))

    @property
    def _first(self) -> int | None:
        return min((n for n, layer in self._layers.items() if any(name in self._ranks for name in layer)), default=None)

    def _all(self) -> Iterable[tuple[str, Shape]]:
        return (item for layer in self._layers.values() for item in layer.items())

    def kept(self, positions: int, dora: bool, again: bool, *, from_first: bool = True) -> float:
        """Floats kept at so many positions. `from_first`: no gradient goes to the layers before the first adapter."""
        if from_first and self._first is None:
            return 0.0
        begin = self._first if from_first and self._first is not None else 0
        each = [self._of_layer(layer, dora) for number, layer in self._layers.items() if number >= begin]
        weights = self._norms(begin) if dora else 0
        if again and each:
            widths = [min(shape.inputs for shape in layer.values()) for n, layer in self._layers.items() if n >= begin]
            return positions * (sum(widths) + max(each)) + weights
        return positions * sum(each) + weights

    def kept_of_encoder(self, frames: int, dora: bool) -> float:
        """Keys and values that cross-attention makes of the encoder's frames."""
        extra = sum(s.outputs for name, s in self._all() if _of_encoder(name) and name in self._ranks) if dora else 0
        return frames * (self.cross + _DORA_KEPT * extra)

    def _of_layer(self, layer: Mapping[str, Shape], dora: bool) -> float:
        here = {name: shape for name, shape in layer.items() if not _of_encoder(name)}
        adapted = {name: shape for name, shape in here.items() if name in self._ranks}
        # queries, keys and values share what they are given
        inputs = {(name.rpartition(".")[0], shape.inputs) for name, shape in adapted.items()}
        floats = _KEPT * _put_out(here.values()) + sum(size for _, size in inputs)
        floats += sum(self._ranks[name] for name in adapted)
        return floats + (_DORA_KEPT * _put_out(adapted.values()) if dora else 0.0)

    def _norms(self, begin: int) -> int:
        """DoRA keeps a matrix of each layer's size, once."""
        return sum(
            shape.outputs * shape.inputs
            for number, layer in self._layers.items()
            if number >= begin
            for name, shape in layer.items()
            if name in self._ranks
        )


def _put_out(shapes: Iterable[Shape]) -> int:
    return sum(shape.outputs for shape in shapes)


def _of_encoder(name: str) -> bool:
    """Whether a layer of the decoder is put on the encoder's frames."""
    return _CROSS.search(name) is not None and name.rpartition(".")[2][:1] in ("k", "v")
