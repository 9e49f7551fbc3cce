from __future__ import annotations

from typing import Any

import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from core.plan.lines import key_lines, nearest_line

DOCUMENT = '''\
# a comment with [brackets] and = signs
title = "x # not a comment"

[train]
steps = 1000  # a comment
"learning rate" = 1e-4
'eval.every' = 5
schedule.kind.name = "linear"

[model]
text = """
[not.a.table]
key = 1
"""
literal = \'\'\'
a = "b\'\'\'
after = 1

[[experiment]]
id = "2.1"
sweep = { "train.learning_rate" = [1e-4, 2e-4], train.steps = [1, 2] }
[experiment.train]
steps = 5

[[experiment]]
id = "2.2"
sweep."adapter.target_modules" = [
  ["q_proj"],  # one ]
  # nothing here
  ["q_proj", "v_proj"],
]
   adapter  .  rank=3
[[experiment.note]]
a = 1
[[experiment.note]]
a = 2
'''

EXPECTED = {
    ("title",): 2,
    ("train",): 4,
    ("train", "steps"): 5,
    ("train", "learning rate"): 6,
    ("train", "eval.every"): 7,
    ("train", "schedule"): 8,
    ("train", "schedule", "kind", "name"): 8,
    ("model", "text"): 11,
    ("model", "literal"): 15,
    ("model", "after"): 17,
    ("experiment",): 19,
    ("experiment", 0): 19,
    ("experiment", 0, "id"): 20,
    ("experiment", 0, "sweep", "train.learning_rate"): 21,
    ("experiment", 0, "sweep", "train.learning_rate", 1): 21,
    ("experiment", 0, "sweep", "train", "steps"): 21,
    ("experiment", 0, "train"): 22,
    ("experiment", 0, "train", "steps"): 23,
    ("experiment", 1): 25,
    ("experiment", 1, "sweep"): 27,
    ("experiment", 1, "sweep", "adapter.target_modules", 0): 28,
    ("experiment", 1, "sweep", "adapter.target_modules", 1): 30,
    ("experiment", 1, "sweep", "adapter.target_modules", 1, 1): 30,
    ("experiment", 1, "adapter", "rank"): 32,
    ("experiment", 1, "note", 0, "a"): 34,
    ("experiment", 1, "note", 1): 35,
    ("experiment", 1, "note", 1, "a"): 36,
}


def test_every_kind_of_key_has_its_line() -> None:
    tomli.loads(DOCUMENT)
    lines = key_lines(DOCUMENT)
    assert {path: lines.get(path) for path in EXPECTED} == EXPECTED


def test_windows_line_ends_count_once() -> None:
    lines = key_lines(DOCUMENT.replace("\n", "\r\n"))
    assert {path: lines.get(path) for path in EXPECTED} == EXPECTED


def test_keys_in_strings_and_comments_are_no_keys() -> None:
    lines = key_lines(DOCUMENT)
    assert ("not",) not in lines
    assert ("model", "key") not in lines
    assert ("model", "a") not in lines


def test_escaped_key_is_found_by_its_meaning() -> None:
    assert key_lines('"a\\u0062c" = 1')[("abc",)] == 1


def test_nearest_line_falls_back_to_the_table_around() -> None:
    lines = key_lines("[a]\nb = 1\n")
    assert nearest_line(lines, ("a", "b", "c")) == 2
    assert nearest_line(lines, ("a", "missing")) == 1
    assert nearest_line(lines, ("z",)) is None


def test_deep_nesting_does_not_exhaust_the_stack() -> None:
    key_lines("a = " + "[" * 100_000)
    key_lines("a = " + "{b=" * 100_000)


@given(st.text(max_size=200))
def test_any_text_is_survived(text: str) -> None:
    key_lines(text)


@given(st.text(alphabet="[]{}=.,\"'#\\\n\r abc1\ufeff", max_size=80))
@settings(max_examples=500)
def test_anything_like_toml_is_survived(text: str) -> None:
    key_lines(text)


def _all_paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        items: list[tuple[str | int, Any]] = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return [path]
    return ([path] if path else []) + [p for key, item in items for p in _all_paths(item, (*path, key))]


_KEYS = st.sampled_from(["a", "b-1", '"c d"', "'e.f'", '"g\\"h"', "i.j", 'k . "l.m"', "1"])
_SCALARS = st.sampled_from(
    [
        "1",
        "1.5e-3",
        '"x"',
        "'y]'",
        '"}, z = 1"',
        "true",
        "1979-05-27T07:32:00Z",
        '"""\n[n]\n"o" ""\n"""',
        "'''\np=1''''",
    ]
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.lists(inner, min_size=1, max_size=3).map(lambda items: "[ # c ]\n" + ",\n\n ".join(items) + ", # d\n]"),
        st.lists(st.tuples(_KEYS, inner), max_size=2, unique_by=lambda pair: pair[0]).map(
            lambda pairs: "{" + ", ".join(f"{key} = {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=5,
)
_LINES = st.one_of(
    st.tuples(_KEYS, _VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    _KEYS.map(lambda key: f"[{key}] # e"),
    _KEYS.map(lambda key: f"[[ {key} ]]"),
    st.just("# f = [1"),
    st.just(""),
)


@given(st.lists(_LINES, max_size=8).map("\n".join))
@settings(max_examples=500)
def test_every_key_of_a_valid_document_is_found_where_it_stands(text: str) -> None:
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    lines = key_lines(text)
    count = text.count("\n") + 1
    for path in _all_paths(data):
        assert path in lines, path
        assert 1 <= lines[path] <= count
        # The key, or the header or bracket that opens the element, is on that line.
        name = next(part for part in reversed(path) if isinstance(part, str))
        if isinstance(path[-1], str):
            assert name.replace('"', '\\"') in text.split("\n")[lines[path] - 1]
