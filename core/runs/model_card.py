"""The model card of an adapter: README.md in its folder, as the Hugging Face hub reads it. Not part of its hash."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import RunFolderError
from core.plan.candidates import Candidate
from core.plan.exports import Target
from core.runs.data_health import shared_sentence, size_sentence
from core.runs.folder import linked_adapter, write_text
from core.runs.judged import Judged, judged, recorded_thresholds
from core.runs.paths import RunPaths
from core.runs.snapshot import RunSnapshot
from core.runs.store import read_run
from core.sanitise import escape_markdown, escape_markdown_cell, sanitise
from core.scoring.certainty import short
from core.scoring.data_health import SETS, TAKEN_FROM
from core.scoring.signs import signed
from core.scoring.units import ErrorCounts
from core.system import files

NAME = "README.md"
_TASK = "automatic-speech-recognition"
_SETS = ("domain", "heldout")


def write_card(paths: RunPaths, folder: Path | None = None) -> Path:
    """Write the card beside the best adapter, or into `folder`. RunFolderError without an adapter, OSError."""
    snapshot = read_run(paths)
    best = linked_adapter(paths, paths.best)
    if best is None or not paths.adapter(best).is_dir():
        raise RunFolderError(f"{paths.best}: no adapter there yet, so there is nothing to write a model card for")
    text = render(judged(snapshot, recorded_thresholds(snapshot.config)))
    target = (folder or paths.adapter(best)) / NAME
    if folder is None:
        write_text(paths.root, target, text)
    else:
        files.write_text(target, text)
    return target


_RELATIONS = {"peft": "adapter", "transformers": "merge", "ctranslate2": "quantized"}
_METHODS = {"lora": "LoRA", "dora": "DoRA", "rslora": "rsLoRA", "pissa": "PiSSA", "olora": "OLoRA"}


def render(judged: Judged, target: Target | None = None) -> str:
    """The whole card. Texts from outside are escaped; folders of this machine are not named.

    `target`: of an export of the adapter, whose card says how that is used.
    """
    import yaml

    front = yaml.safe_dump(metadata(judged, target), sort_keys=False, allow_unicode=False, width=1000)
    use = _use if target is None else partial(_use_of_export, target=target)
    sections = [_about, _scores, _verdict, _data, use, _limits, _made]
    return f"---\n{front}---\n\n" + "\n".join(line for section in sections for line in section(judged)) + "\n"


def metadata(judged: Judged, target: Target | None = None) -> dict[str, Any]:
    """The front matter. `base_model` only when it is one of the hub's: a folder's name would claim another model."""
    snapshot, evidence, rate = judged.snapshot, judged.evidence, judged.snapshot.unit.rate
    method = str(_section(snapshot, "adapter").get("method") or "lora")
    library = "peft" if target is None else target.form.served_by
    front: dict[str, Any] = {"library_name": library, "pipeline_tag": _TASK}
    if (base := _hub_id(snapshot)) is not None:
        front |= {"base_model": base, "base_model_relation": _RELATIONS.get(library, "merge")}
    front |= {
        "tags": [_TASK, "lora-tui", *dict.fromkeys(("lora", sanitise(method)))],
        "metrics": [rate.lower()],
    }
    results = [
        {
            "task": {"type": _TASK, "name": "Automatic Speech Recognition"},
            "dataset": {"type": _manifest(snapshot, name), "name": f"{name}: {_manifest(snapshot, name)}"},
            "metrics": [{"type": rate.lower(), "value": round(wer, 2), "name": rate}],
        }
        for name, counts in (("domain", evidence.tuned_domain), ("heldout", evidence.tuned_heldout))
        if counts is not None and (wer := counts.wer_percent) is not None
    ]
    return front | {"model-index": [{"name": sanitise(snapshot.paths.name), "results": results}]} if results else front


def _about(judged: Judged) -> Iterable[str]:
    snapshot = judged.snapshot
    adapter, train = _section(snapshot, "adapter"), _section(snapshot, "train")
    modules = adapter.get("target_modules")
    names = ", ".join(map(str, modules)) if isinstance(modules, (list, tuple)) else "not recorded"
    method = _METHODS.get(str(adapter.get("method")), str(adapter.get("method")))
    where = ", ".join(f"{key} {adapter[key]}" for key in ("sites", "layers") if adapter.get(key))
    names += f"; {where}" if where else ""
    yield f"# {escape_markdown(f'{snapshot.experiment} {snapshot.title}'.strip())}"
    yield ""
    yield (
        f"A {escape_markdown(method)} adapter (rank {adapter.get('rank')}, alpha {adapter.get('alpha')}, on "
        f"{escape_markdown(names)}) for the speech recogniser {escape_markdown(_base(snapshot))}, trained for "
        f"{snapshot.steps_completed} steps at a peak learning rate of {train.get('learning_rate')}; the weights are "
        f"{_weights(judged)}."
    )
    yield ""


def _weights(judged: Judged) -> str:
    chosen, decay = judged.evidence.chosen, _section(judged.snapshot, "train").get("ema")
    averaged = f", each the moving average of the steps before it (train.ema = {decay})" if decay else ""
    if chosen is None:
        return f"those of step {judged.verdict.best_step}{averaged.replace('each ', '')}"
    return f"{Candidate(chosen.made_of, chosen.alpha).in_words()}, by the effective weights of each layer{averaged}"


def _scores(judged: Judged) -> Iterable[str]:
    evidence, verdict = judged.evidence, judged.verdict
    unit = judged.snapshot.unit
    yield f"## {unit.long_rate.capitalize()}"
    yield ""
    heads = ("Set", unit.plural.capitalize(), "Base model, %", "With the adapter, %", "S / D / I", "How sure")
    rows = []
    pairs = ((evidence.baseline_domain, evidence.tuned_domain), (evidence.baseline_heldout, evidence.tuned_heldout))
    for name, criterion, (before, after) in zip(_SETS, ("domain_gain", "heldout"), pairs, strict=True):
        certainty = verdict.criterion(criterion).certainty
        sure = "not computed" if certainty is None else short(certainty, criterion)
        words = "?" if after is None else str(after.reference_words)
        rows.append((name, words, _wer(before), _wer(after), _kinds(after), sure))
    yield from _table(heads, rows)
    yield ""
    yield (
        "*domain* is the speech that was to get better, *heldout* ordinary speech that must not get worse. "
        "Micro average over the whole sets, greedy decoding, by a separate process that read the adapter from disk."
    )
    yield ""


def _verdict(judged: Judged) -> Iterable[str]:
    yield f"## Verdict: {judged.verdict.decision.value}"
    yield ""
    for remark in judged.verdict.remarks:
        yield from (f"**{escape_markdown(remark)}**", "")
    criteria = [(c.title, c.state.value, c.reason) for c in judged.verdict.criteria]
    yield from _table(("Criterion", "State", "Why"), criteria)
    yield ""


def _data(judged: Judged) -> Iterable[str]:
    snapshot = judged.snapshot
    hashes = (snapshot.config or {}).get("hashes")
    known = hashes if isinstance(hashes, Mapping) else {}
    yield "## Data"
    yield ""
    rows = [
        (name, _manifest(snapshot, name), str(known.get(name, "not recorded"))[:16])
        for name in SETS
        if _section(snapshot, "data").get(name) or (name in TAKEN_FROM and name in known)
    ]
    yield from _table(("Set", "Manifest", "SHA-256 of texts and audio, first 16 digits"), rows)
    health = judged.evidence.data_health
    if health is None:
        yield from ("", "The sets were not audited against each other.")
    else:
        yield from ("", "The audit of the sets:", "")
        yield from (f"- {one.name}: {escape_markdown(size_sentence(one))}" for one in health.sets)
        yield from (f"- {escape_markdown(shared_sentence(one))}" for one in health.shared)
    yield ""


def _use(judged: Judged) -> Iterable[str]:
    base = _hub_id(judged.snapshot) or "BASE_MODEL"
    yield "## Use"
    yield ""
    yield from ("```", f"lora-cli transcribe talk.wav --adapter . --model {shlex.quote(_code(base))}", "```", "")
    yield "hears as the training did: loudness, batching, decoding, text normaliser. With transformers and peft alone:"
    yield ""
    yield "```python"
    yield from (
        "import transformers",
        "from peft import PeftModel",
        "",
        f'config = transformers.AutoConfig.from_pretrained("{_code(base)}")',
        f'model = getattr(transformers, config.architectures[0]).from_pretrained("{_code(base)}")',
        'model = PeftModel.from_pretrained(model, ".").merge_and_unload()',
        "```",
        "",
        f"Bring clips to 16 kHz mono and an RMS of {_section(judged.snapshot, 'data').get('target_rms')} first, and "
        "do not pad clips into one batch where its layers see padding (Moonshine, wav2vec2): either moves the result.",
        "",
    )


def _use_of_export(judged: Judged, target: Target) -> Iterable[str]:
    base = _code(_hub_id(judged.snapshot) or "BASE_MODEL")
    model = _section(judged.snapshot, "model")
    told = {key: _code(str(model[key])) for key in ("language", "task") if model.get(key)}
    rms = _section(judged.snapshot, "data").get("target_rms")
    yield "## Use"
    yield ""
    yield f"This folder is an export of that adapter, {target}: what was judged above is the adapter itself."
    yield ""
    flags = "".join(f" --{key} {shlex.quote(value)}" for key, value in told.items())
    given = "".join(f', {key}="{value}"' for key, value in told.items())
    how = {
        "ct2": (
            "Whisper is served by faster-whisper:",
            "",
            "```python",
            "from faster_whisper import WhisperModel",
            "",
            'model = WhisperModel(".", local_files_only=True)',
            f'segments, _ = model.transcribe("talk.wav"{given}, beam_size={_beams(judged)}, temperature=0.0,',
            "    without_timestamps=True, condition_on_previous_text=False)",
            "```",
            "",
            "So it was judged as an export. A clip that is padded with silence to 30 s before is heard as the adapter "
            "was: faster-whisper pads its spectrogram with zeros, which are no silence to Whisper.",
        ),
        "lora": ("```", f"lora-cli transcribe talk.wav --adapter . --model {shlex.quote(base)}", "```"),
        "onnx": ("The graphs are those of Moonshine's streaming runtime; ONNX Runtime computes them.",),
        "hf": (
            "```",
            f"lora-cli transcribe talk.wav --model .{flags}",
            "```",
            "",
            "```python",
            "import transformers",
            "",
            'config = transformers.AutoConfig.from_pretrained(".")',
            'model = getattr(transformers, config.architectures[0]).from_pretrained(".")',
            "```",
        ),
    }
    yield from (*how[target.form.name], "")
    yield f"Bring clips to 16 kHz mono and an RMS of {rms} first, as they were when it was judged."
    yield ""


def _beams(judged: Judged) -> int:
    beams = _section(judged.snapshot, "train").get("beams", 1)
    return beams if isinstance(beams, int) else 1


def _limits(judged: Judged) -> Iterable[str]:
    certainty = judged.verdict.criterion("domain_gain").certainty
    yield "## Limits"
    yield ""
    yield "- The figures hold for these two sets. Other speech, noise, microphones and languages were not measured."
    if certainty is None or certainty.conditional:
        yield "- They say nothing of speakers who are not in the sets: those who are were not told apart."
    if certainty is not None and certainty.corrected_pp is not None:
        measured, corrected = signed(-certainty.raw_pp), signed(-certainty.corrected_pp)
        yield (
            f"- The step was chosen among several on the same sets, which flatters the change: "
            f"{measured} points measured, {corrected} when corrected for the choice."
        )
    if certainty is not None and certainty.chosen_apart:
        yield "- The step was chosen on selection sets of its own, so the figures need no correction for the choice."
    if judged.verdict.decision.value != "accepted":
        yield f"- **The verdict is {judged.verdict.decision.value}**: see the criteria before you use it."
    yield "- Licence and limits of the base model apply, and those of the training speech."
    yield ""


def _made(judged: Judged) -> Iterable[str]:
    snapshot = judged.snapshot
    provenance = (snapshot.config or {}).get("provenance")
    code = provenance.get("code_version") if isinstance(provenance, Mapping) else None
    artifact = judged.evidence.artifact
    attempt = snapshot.attempts[-1] if snapshot.attempts else None
    facts = {
        "Run": f"{snapshot.paths.name}, identity {snapshot.identity}",
        "Adapter hash": (artifact.current_hash if artifact is not None else None) or "not recorded",
        "Code": f"lora-tui {code or 'of a version that is not recorded'}",
        "Libraries": ", ".join(f"{k} {v}" for k, v in sorted(attempt.versions.items())) if attempt else "not recorded",
        "Device": f"{attempt.device}, {attempt.precision}" if attempt else "not recorded",
    }
    yield "## How it was made"
    yield ""
    yield from (f"- {name}: {escape_markdown(value)}" for name, value in facts.items())


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterable[str]:
    lines = [list(heads)]
    lines += [["---"] * len(lines[0]), *([escape_markdown_cell(cell) for cell in row] for row in rows)]
    return (f"| {' | '.join(line)} |" for line in lines)


def _section(snapshot: RunSnapshot, name: str) -> Mapping[str, Any]:
    section = snapshot.settings.get(name)
    return section if isinstance(section, Mapping) else {}


def _hub_id(snapshot: RunSnapshot) -> str | None:
    """The base model's id on the hub; None for a folder."""
    model, hashes = _section(snapshot, "model").get("id"), (snapshot.config or {}).get("hashes")
    digest = hashes.get("model") if isinstance(hashes, Mapping) else None
    return model if isinstance(model, str) and str(digest).startswith("hub:") else None


def _base(snapshot: RunSnapshot) -> str:
    hub = _hub_id(snapshot)
    if hub is not None:
        revision = _section(snapshot, "model").get("revision")
        return f"{hub} ({f'revision {revision}' if revision else 'no revision given'})"
    hashes = (snapshot.config or {}).get("hashes")
    digest = hashes.get("model") if isinstance(hashes, Mapping) else None
    return f"in a local folder, {Path(str(_section(snapshot, 'model').get('id'))).name} (hash {str(digest)[:16]})"


def _manifest(snapshot: RunSnapshot, name: str) -> str:
    written = _section(snapshot, "data").get(name)
    if written is None and name in TAKEN_FROM:
        return f"a part of {TAKEN_FROM[name]}, taken out of it"
    return sanitise(Path(str(written or name)).name)


def _wer(counts: ErrorCounts | None) -> str:
    return "?" if counts is None or counts.wer_percent is None else f"{counts.wer_percent:.2f}"


def _kinds(counts: ErrorCounts | None) -> str:
    return "?" if counts is None else f"{counts.substitutions} / {counts.deletions} / {counts.insertions}"


def _code(text: str) -> str:
    """Inside a code block: nothing that could end it, or the string that holds it."""
    return "".join(c for c in sanitise(text) if c not in '`"\\\n')
