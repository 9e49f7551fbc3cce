"""What is wrong with a model's folder, told from its files: what loading it would end with, in the same sentence.

`lora-tui plan` asks before anything starts, the trainer before it loads. Nothing here guesses: what only the loaded
network can tell is left to `core.training.model`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.plan.families import (
    COMPOSED,
    LANGUAGE_MISSING,
    FamilyFacts,
    family_of,
    known_languages,
    no_token,
    no_weights_of,
    unlisted_languages,
    why_not,
    wrong_blank,
)
from core.runs.model_files import CONFIG, WEIGHTS, broken_weights, tensor_shapes
from core.system.files import SCORES_BYTES, folder_problem, read_bytes, read_json, stamp

GENERATION = "generation_config.json"
EXTRACTOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
TOKENIZER = "tokenizer_config.json"
INDEX = "model.safetensors.index.json"
_DOCUMENTS = (CONFIG, GENERATION, EXTRACTOR, PROCESSOR, TOKENIZER, "tokenizer.json", "vocab.json", "tekken.json", INDEX)
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json", "*.model")
_LAYER = re.compile(r"\.layers?\.(\d+)\.")
_WIDTHS = ("d_model", "hidden_size")
_PARTS = ("text_config", "decoder_config", "decoder")
"""Keys of config.json that hold the configuration of the part that writes."""


def family_in(folder: Path) -> FamilyFacts | None:
    """The family of the model in a folder; None: of none, or there is no model."""
    return family_of(config_of(folder).get("model_type"))


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of the model in a folder; empty where there is none."""
    return read_json(folder / "config.json", follow=True)[0] or {}


def languages_in(folder: Path, facts: FamilyFacts) -> tuple[str, ...]:
    """Codes of the languages that the model in a folder can be told; none: it takes none."""
    vocabulary = read_json(folder / "vocab.json", follow=True)[0] if facts.language == "single" else None
    return known_languages(facts, read_json(folder / "generation_config.json", follow=True)[0] or {}, vocabulary)


def spoken_unless_told(folder: Path, facts: FamilyFacts) -> str | None:
    """The language that a model with a vocabulary for each of several speaks by itself; None: it has no such choice."""
    if facts.language != "single" or len(languages_in(folder, facts)) < 2:
        return None
    own = (read_json(folder / TOKENIZER, follow=True)[0] or {}).get("target_lang")
    return own if isinstance(own, str) else None


def model_problem(folder: Path, language: str | None = None, *, whole: bool = True) -> str | None:
    """One sentence on what is wrong with a model that is told `language`; None: nothing that its files tell.

    `whole`: all of its files are there that ever will be. The cache of the hub may have some, and get the rest.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
        stamps = tuple(stamp((folder / name).stat()) for name in names if (folder / name).exists())
        return _model_problem(folder, language, whole, tuple(names), stamps)
    except OSError as error:
        return f"cannot be read ({error}): correct its permissions"


def worded(model: str, problem: str) -> str:
    """The sentence with the model's name before it, where it does not begin with the key that is wrong."""
    return problem if problem.startswith(("model.id: ", "model.language: ")) else f"{model}: {problem}"


@lru_cache(maxsize=32)
def _model_problem(
    folder: Path, language: str | None, whole: bool, _names: tuple[str, ...], _stamps: tuple[tuple[int, ...], ...]
) -> str | None:
    return next(_problems(folder, language, whole), None)


def _problems(folder: Path, language: str | None, whole: bool) -> Iterator[str]:
    if (pointer := folder_problem(folder)) is not None:
        yield pointer.removeprefix(f"{folder}/")
    files: dict[str, dict[str, Any]] = {}
    for name in _DOCUMENTS:
        try:
            found = json.loads(read_bytes(folder / name, SCORES_BYTES, follow=True))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            yield f"{name} is not JSON ({error}): save or download it again"
            continue
        if not isinstance(found, dict):
            yield f"{name} is no JSON object: save or download it again"
            continue
        files[name] = found
    if whole and not (folder / CONFIG).is_file():
        yield f"no {CONFIG}; give a folder in hub format"
    config = files.get(CONFIG, {})
    facts = family_of(config.get("model_type"))
    if CONFIG in files and (wrong := why_not(config)) is not None:
        yield wrong
    if facts is None:
        return
    yield from _weights(folder, facts, config, files.get(INDEX), whole)
    if whole:
        yield from _processor(folder, files)
    yield from _tokenizer(facts, config, files)
    if whole or GENERATION in files:
        yield from _languages(folder, facts, config, files, language, whole)
    if whole:
        yield from _prompt(folder, facts, config, files, language)


def _weights(
    folder: Path, facts: FamilyFacts, config: Mapping[str, Any], index: Mapping[str, Any] | None, whole: bool
) -> Iterator[str]:
    if whole and not any(folder.glob(WEIGHTS)):
        yield (
            "no *.safetensors; weights load from safetensors only: "
            "convert the model with save_pretrained(..., safe_serialization=True)"
        )
    if (broken := broken_weights(folder)) is not None:
        yield broken
    parts = index.get("weight_map") if index is not None and not (folder / "model.safetensors").is_file() else None
    for name in sorted({str(part) for part in parts.values()}) if whole and isinstance(parts, dict) else ():
        if not (folder / name).is_file():
            yield f"{name} is missing, which {INDEX} names: save or download the model again"
    shapes = tensor_shapes(folder)
    if not shapes or (not whole and parts):
        return
    where = f"{CONFIG} and the weights are not of one model: save or download it again"
    if facts.heads and not {f"{head}.weight" for head in facts.heads} & {".".join(n.split(".")[-2:]) for n in shapes}:
        yield (
            f"no weights of its head ({' or '.join(facts.heads)}) are in its safetensors files, as in models that were "
            "only pre-trained: take one that was trained to write text"
        )
    for key, pattern, wanted in _layer_counts(facts, config):
        inside = re.compile(pattern)
        found = [
            int(number[1]) for name in shapes for number in _LAYER.finditer(facts.module(name)) if inside.match(name)
        ]
        there = max(found, default=-1) + 1
        if wanted > there and (found or not facts.renamed):
            yield f"{CONFIG} says {key} = {wanted}, and the weights have {there} of these layers: {where}"
    said = next((part for key in _PARTS if isinstance(part := config.get(key), dict)), config)
    sizes = {shape[0] for shape in shapes.values() if shape}
    for place, key in ((said, "vocab_size"), *((said, width) for width in _WIDTHS)):
        value = place.get(key)
        if isinstance(value, int) and value not in sizes:
            yield f"{CONFIG} says {key} = {value}, and no weights are of that size: {where}"


def _layer_counts(facts: FamilyFacts, config: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(key, regular expression of the modules, how many layers it says) where config.json says it.

    Some have num_hidden_layers beside encoder_layers and decoder_layers, and it is one of them: there it says nothing.
    """
    alone = facts.encoder if facts.decoder is None else facts.decoder
    sides = {"encoder": facts.encoder, "decoder": facts.decoder}
    encoders = ("encoder_config", "audio_config", "encoder")
    parts: list[tuple[str, object, tuple[str, ...], str | None]] = [("", config, ("encoder", "decoder"), alone)]
    parts += [(f"{part}.", config.get(part), ("encoder",), facts.encoder) for part in encoders]
    parts += [(f"{part}.", config.get(part), ("decoder",), facts.decoder) for part in _PARTS]
    for where, held, own, pattern in parts:
        if not isinstance(held, Mapping):
            continue
        keys = {f"{side}{key}": side for side in sides for key in ("_layers", "_num_hidden_layers")}
        told = [(key, sides[side]) for key, side in keys.items() if key in held and side in own]
        if not any(key in held for key in keys):
            told = [("num_hidden_layers", pattern)]
        for key, modules in told:
            if modules is not None and type(held.get(key)) is int:
                yield f"{where}{key}", modules, held[key]


def _processor(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    what = f"the folder needs {EXTRACTOR} or {PROCESSOR}, and tokenizer.json"
    if EXTRACTOR not in files and not isinstance(files.get(PROCESSOR, {}).get("feature_extractor"), dict):
        yield f"no usable processor (nothing says how its features are made); {what}"
    if not any(path.is_file() for pattern in _TOKENIZERS for path in folder.glob(pattern)):
        yield f"no usable processor (no file of a tokenizer); {what}"


def _tokenizer(facts: FamilyFacts, config: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    whole = files.get("tokenizer.json")
    if whole is not None and not isinstance(whole.get("model"), dict):
        yield "no usable processor (tokenizer.json holds no tokenizer); save or download it again"
    if facts.blank:
        blank, said = _blank(files), config.get("pad_token_id")
        if blank is not None and said is not None and (wrong := wrong_blank(said, config.get("vocab_size"), blank)):
            yield wrong


def _blank(files: Mapping[str, Mapping[str, Any]]) -> int | None:
    """The id of the tokenizer's padding token; None where no file tells it."""
    described = files.get(TOKENIZER, {})
    named = described.get("pad_token")
    named = named.get("content") if isinstance(named, dict) else named
    known = _ids(files)
    spoken = known.get(str(described.get("target_lang")))
    found = (spoken if isinstance(spoken, dict) else known).get(str(named))
    return found if type(found) is int else None


def _ids(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Token → id, as the tokenizer's files have them; of a vocabulary for each language: language → its tokens."""
    known: dict[str, Any] = dict(files.get("vocab.json", {}))
    whole = files.get("tokenizer.json", {})
    model = whole.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    known |= vocabulary if isinstance(vocabulary, dict) else {}
    for place, piece in enumerate(vocabulary if isinstance(vocabulary, list) else ()):
        known[str(piece[0] if isinstance(piece, list) and piece else piece)] = place
    listed = [*_list(whole.get("added_tokens")), *_list(files.get("tekken.json", {}).get("special_tokens"))]
    for token in (token for token in listed if isinstance(token, dict)):
        known[str(token.get("content", token.get("token_str")))] = token.get("id", token.get("rank"))
    return known


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _languages(
    folder: Path,
    facts: FamilyFacts,
    config: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
    language: str | None,
    whole: bool,
) -> Iterator[str]:
    generation, described = files.get(GENERATION, {}), files.get(TOKENIZER, {})
    if wrong := unlisted_languages(facts, config, generation, described.get("language")):
        yield wrong
    known = known_languages(facts, generation, files.get("vocab.json"))
    own = described.get("target_lang")
    if facts.language == "single" and known and own is None and language is None:
        yield LANGUAGE_MISSING
    chosen = language if facts.language == "single" and whole and language in known and language != own else None
    if chosen is not None and not (folder / f"adapter.{chosen}.safetensors").is_file():
        yield no_weights_of(chosen)


def _prompt(
    folder: Path,
    facts: FamilyFacts,
    config: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
    language: str | None,
) -> Iterator[str]:
    """What its prompt cannot be made of."""
    if config.get("model_type") in COMPOSED:
        places = (files.get(GENERATION, {}), config)
        for key in ("decoder_start_token_id", "eos_token_id"):
            if all(place.get(key) is None for place in places):
                yield no_token(key)
    mend = "save or download it again"
    templates = any(
        (folder / name).exists() for name in ("chat_template.jinja", "chat_template.json", "chat_templates")
    )
    held = any("chat_template" in files.get(name, {}) for name in (PROCESSOR, TOKENIZER))
    if facts.chat_template and not (templates or held):
        yield f"its processor makes no prompt: there is no chat_template.jinja: {mend}"
    known = _ids(files)
    told = language in facts.languages  # another one is refused for that
    wanted = [token.format(language=language) for token in facts.control if told or "{" not in token]
    if known and (missing := [token for token in wanted if token not in known]):
        yield f"its processor makes no prompt: the tokenizer has no token {missing[0]}: {mend}"
