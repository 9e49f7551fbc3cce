"""The forms in which a judged adapter can be shipped, and what each cannot do. Pure.

A form is a line here and, where it can be made, a module of `core.export` of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOAT32, BFLOAT16, FLOAT16, INT8 = "float32", "bfloat16", "float16", "int8"


@dataclass(frozen=True, slots=True)
class Form:
    """One form of an export."""

    name: str
    what: str
    """A line of help."""
    precisions: tuple[str, ...]
    """Of its weights; the first is the default."""
    served_by: str
    """The package that its verdict is passed with."""
    extra: str | None = None
    """Of lora-tui's own, which brings what it needs; None: the plain install has it."""
    needs: tuple[str, ...] = ()
    """Modules that must be there to make and to judge it."""
    model_types: tuple[str, ...] = ()
    """Which models it can hold, by config.json; none named: all that can be trained."""
    instead: str = "take --to hf"
    """What to do for a model that it cannot hold."""
    heard_by: tuple[str, ...] = ("transformers",)
    """The runtimes that its verdict may be passed with, by their names in export.json."""
    unmade: str | None = None
    """Why it cannot be made here, and what to do instead."""

    def refusal(self, model_type: str) -> str | None:
        """Why it cannot hold a model of this type; None: it can."""
        if self.unmade is not None:
            return f"--to {self.name}: {self.unmade}"
        if self.holds(model_type):
            return None
        return f"--to {self.name}: a {model_type} model has no such form ({self.held}): {self.instead}"

    def holds(self, model_type: str) -> bool:
        """Whether a model of this type, by its config.json, has this form."""
        return not self.model_types or model_type in self.model_types

    @property
    def held(self) -> str:
        """Which models it can hold, in words."""
        return f"it holds {', '.join(self.model_types)}" if self.model_types else "it holds every model"


FORMS = (
    Form(
        "hf",
        "a plain model folder in hub format, with the adapter merged in",
        (FLOAT32, BFLOAT16, FLOAT16),
        "transformers",
    ),
    Form(
        "lora",
        "a plain LoRA in peft format; a DoRA becomes one by singular value decomposition",
        (FLOAT32,),
        "peft",
    ),
    Form(
        "ct2",
        "CTranslate2, for faster-whisper and servers built on it",
        (FLOAT32, FLOAT16, INT8),
        "ctranslate2",
        extra="ct2",
        needs=("ctranslate2", "faster_whisper"),
        model_types=("whisper", "wav2vec2"),
        heard_by=("faster-whisper", "ctranslate2"),
    ),
    Form(
        "onnx",
        "ONNX graphs of a streaming Moonshine, by the package moonshine-voice",
        (FLOAT32, INT8),
        "onnxruntime",
        extra="onnx",
        needs=("moonshine_voice", "onnx", "onnxscript", "onnxruntime"),
        model_types=("moonshine_streaming",),
        heard_by=("onnxruntime",),
        instead="optimum's exporter (optimum-onnx 0.1.0), which has others, works with transformers below 4.58 only: "
        "merge with --to hf, then run optimum-cli on that folder in an environment of its own",
    ),
    Form(
        "ggml",
        "ggml, for whisper.cpp: refused, with what to do instead",
        (FLOAT16, INT8),
        "whisper.cpp",
        unmade="no package on PyPI converts to it: merge with --to hf, then run models/convert-h5-to-ggml.py of a "
        "whisper.cpp checkout on that folder",
    ),
)


@dataclass(frozen=True, slots=True)
class Target:
    """A form at a precision: `ct2:int8`."""

    form: Form
    precision: str

    def __str__(self) -> str:
        return f"{self.form.name}:{self.precision}"

    @property
    def name(self) -> str:
        """As a folder: `ct2-int8`."""
        return f"{self.form.name}-{self.precision}"


TARGETS = tuple(Target(form, precision) for form in FORMS for precision in form.precisions if form.unmade is None)
"""All that can be made and judged, whatever the model."""


def form_of(name: str) -> Form | None:
    """The form called `name`."""
    return next((form for form in FORMS if form.name == name), None)


def target_of(written: str) -> Target | None:
    """The target that `[gate] runtime` or the name of an export's folder means."""
    return next((one for one in TARGETS if written in (str(one), one.name)), None)
