"""Reading a recipe: TOML and the texts that it names, checked before anything is spoken."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from core.corpus.recipe import LIMITS, Range, Recipe, SetRecipe
from core.corpus.texts import read_vocabulary
from core.errors import UserError


def read_recipe(path: Path) -> Recipe:
    """The recipe of `path` with its texts, checked."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe: name one with --recipe (shipped: data/recipe.toml)") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML: {error}") from None
    _check_keys(path, "", document, {"seed", "texts", "voices", "sets"}, {"seed", "texts", "voices", "sets"})
    seed = document["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"{path}: seed must be a whole number of 0 or more, not {seed!r}")
    vocabularies = {
        name: read_vocabulary(path.parent / _typed(path, f"texts.{name}", str, file))
        for name, file in _typed(path, "texts", dict, document["texts"]).items()
    }
    voices = {
        name: _names(path, f"voices.{name}", group)
        for name, group in _typed(path, "voices", dict, document["voices"]).items()
    }
    sets = {
        name: _read_set(path, name, _typed(path, f"sets.{name}", dict, table))
        for name, table in _typed(path, "sets", dict, document["sets"]).items()
    }
    recipe = Recipe(path, seed, vocabularies, voices, sets)
    _check_references(recipe)
    _check_evaluation_voices(recipe)
    return recipe


def _read_set(path: Path, name: str, table: dict[str, Any]) -> SetRecipe:
    known = {field.name: field.default is MISSING for field in fields(SetRecipe) if field.name != "name"}
    where = f"sets.{name}"
    if not name.isidentifier() or not name.isascii():
        raise UserError(f'{path}: [{where}]: a set\'s name becomes a file name: use letters, digits and "_" only')
    _check_keys(path, where, table, set(known), {key for key, required in known.items() if required})
    values: dict[str, Any] = dict(table)
    for key, value in table.items():
        full = f"{where}.{key}"
        if key in LIMITS:
            values[key] = _range(path, full, value, LIMITS[key])
        elif key == "accents":
            values[key] = _names(path, full, value)
        elif key == "count":
            values[key] = _typed(path, full, int, value)
            if not 1 <= value <= 99_999:
                raise UserError(f"{path}: {full} must be from 1 to 99999, not {value}")
        elif key in ("random_share", "everyday_share"):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise UserError(f"{path}: {full} must be a number from 0 to 1, not {value!r}")
        else:
            _typed(path, full, bool if key in ("evaluation", "on_request") else str, value)
    return SetRecipe(name=name, **values)


def _check_keys(path: Path, where: str, table: dict[str, Any], known: set[str], required: set[str]) -> None:
    inside = f"[{where}]: " if where else ""
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), 1)
            hint = f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(sorted(known))}"
            raise UserError(f'{path}: {inside}unknown key "{key}": {hint}')
    missing = sorted(required - set(table))
    if missing:
        raise UserError(f"{path}: {inside}missing: {', '.join(missing)}")


def _typed(path: Path, key: str, kind: type, value: Any) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        wanted = {str: "a text", int: "a whole number", bool: "true or false", dict: "a table"}[kind]
        raise UserError(f"{path}: {key} must be {wanted}, not {value!r}")
    return value


def _names(path: Path, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise UserError(f"{path}: {key} must be a list of names, not {value!r}")
    if len(set(value)) < len(value):
        raise UserError(f"{path}: {key} names one twice")
    return tuple(value)


def _range(path: Path, key: str, value: object, limits: Range) -> Range:
    match value:
        case [int() | float() as low, int() | float() as high] if limits[0] <= low <= high <= limits[1]:
            return float(low), float(high)
    raise UserError(f"{path}: {key} must be [low, high] within {limits[0]:g} to {limits[1]:g}, not {value!r}")


def _check_references(recipe: Recipe) -> None:
    for one in recipe.sets.values():
        references = (
            ("texts", one.texts, recipe.vocabularies),
            ("everyday", one.everyday, recipe.vocabularies),
            ("voices", one.voices, recipe.voices),
        )
        for key, name, known in references:
            if name is not None and name not in known:
                there = ", ".join(known)
                raise UserError(f'{recipe.path}: sets.{one.name}.{key}: there is no "{name}" in [{key}], only {there}')


def _check_evaluation_voices(recipe: Recipe) -> None:
    for one in recipe.sets.values():
        for other in recipe.sets.values():
            common = set(recipe.voices[one.voices]) & set(recipe.voices[other.voices])
            if one.evaluation and other.name != one.name and common:
                raise UserError(
                    f"{recipe.path}: sets.{one.name} is an evaluation set, but shares the voice {min(common)} with "
                    f"sets.{other.name}: give it voices of its own"
                )
