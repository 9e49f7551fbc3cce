"""ONNX graphs of a streaming Moonshine, by the exporter of the package moonshine-voice, heard through ONNX Runtime.

They are those that its own runtime works with: frontend, encoder, adapter, cross_kv and decoder_kv.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from core.errors import ModelError
from core.export import hf
from core.export.serve import Recogniser, Request, Runtime, Samples
from core.export.source import Source, merged_model
from core.plan.exports import FLOAT32, INT8
from core.system.files import read_json, write_json
from core.training.families.base import Limits
from core.training.families.moonshine_streaming import FRAME_SAMPLES, LEAST_SAMPLES
from core.training.model import one_line

GRAPHS = ("frontend", "encoder", "adapter", "cross_kv", "decoder_kv")
_QUANTISED = ("encoder", "adapter", "cross_kv", "decoder_kv")
"""The frontend is a thousandth of the weights, and all that the others hear."""
_FILES = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json")
_WINDOWS = "sliding_windows"
MOST_TOKENS = 446
"""That a decoder has places for, where nothing says otherwise."""


def write(source: Source, folder: Path, precision: str) -> dict[str, Any]:
    """Merge, export, quantise. ModelError where the exporter cannot; OSError for the disk."""
    with tempfile.TemporaryDirectory(prefix="lora-cli-") as scratch:
        plain = Path(scratch) / "merged"
        hf.save(merged_model(source), plain, FLOAT32)
        _windows_as_trained(plain / "config.json")
        try:
            with _silence():
                _exporter().main(["--model", str(plain), "--output-dir", str(folder)])
                if precision == INT8:
                    _quantise(folder, Path(scratch))
        except OSError:
            raise
        except Exception as error:  # whatever torch, onnx and onnxruntime raise
            raise ModelError(f"moonshine-voice cannot export this model ({one_line(error)}): take --to hf") from error
        for name in _FILES:
            if (plain / name).is_file():
                (plain / name).rename(folder / name)
    return {"converter": f"moonshine-voice {version('moonshine-voice')}"}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the steps that torch and the exporter tell of."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _exporter() -> ModuleType:
    """Its exporting module alone: the package around it wants a sound card's library."""
    package = find_spec("moonshine_voice")
    places = () if package is None else package.submodule_search_locations or ()
    spec = next((spec_from_file_location("moonshine_export", Path(one, "lora", "export.py")) for one in places), None)
    if spec is None or spec.loader is None:
        raise ModelError("moonshine-voice has no exporter: pip install 'lora-tui[onnx]'")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _windows_as_trained(config: Path) -> None:
    """Tell the exporter the windows that transformers trains with.

    transformers counts the frame itself among those on the left, and neither bound is in its window; the exporter takes
    the same numbers for the frames on each side, so that each layer would see one more than it was trained with.
    """
    document, problem = read_json(config)
    if document is None:
        raise ModelError(problem or f"{config}: missing")
    encoder = document.get("encoder_config")
    if isinstance(encoder, dict) and isinstance(encoder.get(_WINDOWS), list):
        encoder[_WINDOWS] = [[max(0, int(size) - 1) for size in window] for window in encoder[_WINDOWS]]
        write_json(config, document)


def _quantise(folder: Path, scratch: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for name in _QUANTISED:
        graph = folder / f"{name}.onnx"
        whole = graph.rename(scratch / graph.name)
        quantize_dynamic(whole, graph, weight_type=QuantType.QInt8)


def opened(request: Request) -> Recogniser:
    """The folder in ONNX Runtime."""
    tokens = min((one.max_tokens for one in request.decode.values()), default=MOST_TOKENS)
    limits = Limits(request.facts.tokens_per_second, max_tokens=tokens, max_seconds=_Streaming.max_seconds)
    return _Streaming(Path(request.folder), limits, request.facts.threads)


class _Streaming:
    """The graphs, a whole clip at a time, greedily."""

    max_seconds = 30.0

    def __init__(self, folder: Path, limits: Limits, threads: int) -> None:
        import onnxruntime
        from transformers import AutoTokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        self.graphs = {
            name: onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=providers)
            for name in GRAPHS
        }
        config, problem = read_json(folder / "streaming_config.json")
        if config is None:
            raise ModelError(problem or f"{folder}: no streaming_config.json")
        self.config, self.limits = config, limits
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.runtime = Runtime("onnxruntime", onnxruntime.__version__, "cpu", _stored(folder))

    def text(self, clip: Samples, language: str | None) -> str:
        """The most likely token at each place, until EOS or the cap."""
        keys, values = self._memory(clip)
        shape = (self.config["depth"], 1, self.config["nheads"], 0, self.config["head_dim"])
        own = [np.zeros(shape, np.float32), np.zeros(shape, np.float32)]
        cap = self.limits.tokens(len(clip))
        written: list[int] = []
        token = self.config["bos_id"]
        while len(written) < cap:
            logits, *own = self.graphs["decoder_kv"].run(
                ["logits", "out_k_self", "out_v_self"],
                {
                    "token": np.array([[token]], np.int64),
                    "k_self": own[0],
                    "v_self": own[1],
                    "out_k_cross": keys,
                    "out_v_cross": values,
                },
            )
            token = int(logits[0, -1].argmax())
            if token == self.config["eos_id"]:
                break
            written.append(token)
        return str(self.tokenizer.decode(written, skip_special_tokens=True)).strip()

    def _memory(self, clip: Samples) -> tuple[Any, Any]:
        """Keys and values of the decoder's attention to the clip."""
        length = max(LEAST_SAMPLES, -(-len(clip) // FRAME_SAMPLES) * FRAME_SAMPLES)
        heard = np.zeros((1, length), np.float32)
        heard[0, : len(clip)] = clip
        kinds = {"sample_len": np.int64, "frame_count": np.int64}
        state = {
            name: np.zeros(shape, kinds.get(name, np.float32))
            for name, shape in self.config["frontend_state_shapes"].items()
        }
        [features] = self.graphs["frontend"].run(["features"], {"audio_chunk": heard} | state)
        [encoded] = self.graphs["encoder"].run(["encoded"], {"features": features})
        [memory] = self.graphs["adapter"].run(["memory"], {"encoded": encoded, "pos_offset": np.zeros(1, np.int64)})
        keys, values = self.graphs["cross_kv"].run(["k_cross", "v_cross"], {"memory": memory})
        return keys, values


def _stored(folder: Path) -> str:
    """The precision of the weights, by what is there."""
    import onnx

    graph = onnx.load(folder / "decoder_kv.onnx", load_external_data=False).graph
    return INT8 if any("Integer" in node.op_type for node in graph.node) else FLOAT32
