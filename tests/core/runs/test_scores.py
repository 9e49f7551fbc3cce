"""Score documents: decoded whole, or refused with the reason."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_kit import counts, score_document, utterance

import core.runs
from core.runs.scores import ScoreError, decode_score, read_score

ONE = utterance("a.wav", "one two", "one too", counts(1, 2), speaker="ann", fields={"room": "hall", "take": 1})
TWO = utterance("b.wav", "three", "three", counts(0, 1))


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_what_is_written_is_what_is_read() -> None:
    document = score_document([ONE, TWO], silent=["b.wav"])
    score = decode_score(encoded(document))
    assert json.loads(json.dumps(score.plain())) == document
    assert score.utterances[0].line.fields == {"room": "hall", "take": 1}


def test_a_file_name_that_is_not_utf_8_survives() -> None:
    name = os.fsdecode(b"a\xff.wav")
    score = decode_score(encoded(score_document([ONE | {"id": name}])))
    assert score.utterances[0].id == name


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not JSON"),
        (b"[]", "Expected `object`"),
        (encoded(score_document([ONE, ONE])), "utterances with the same id"),
        (encoded(score_document([])), "not the sum over its utterances"),
        (encoded(score_document([ONE, TWO], counts=counts(0, 3))), "not the sum over its utterances"),
        (encoded(score_document([ONE], single={"compared": 2, "differing": 0})), "more clips decoded one by one"),
        (encoded(score_document([ONE], schema=1)), "schema 1, not 2"),
        (encoded(score_document([ONE | {"seconds": 1e400}])), "Infinity"),
        (encoded(score_document([ONE])).replace(b'"speaker"', b'"room": 1, "talker"'), "field `speaker`"),
        (encoded(score_document([ONE])).replace(b'"step"', b'"step": 1, "step"'), "twice"),
    ],
)
def test_what_is_none_is_refused_with_its_reason(data: bytes, says: str) -> None:
    with pytest.raises(ScoreError) as caught:
        decode_score(data)
    assert says in str(caught.value)


def test_scores_of_other_clips_say_where_they_differ() -> None:
    score = decode_score(encoded(score_document([ONE, TWO])))
    other = decode_score(encoded(score_document([ONE | {"speaker": "bob"}, TWO])))
    assert score.differing_clip(score) is None
    assert score.differing_clip(other) == "utterance a.wav has another speaker"
    assert score.lines_sha256 != other.lines_sha256
    fewer = decode_score(encoded(score_document([ONE])))
    assert score.differing_clip(fewer) == "1 utterances instead of 2"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path, *(leaf for key in value for leaf in leaves(value[key], (*path, key)))]
    if isinstance(value, list):
        return [path, *(leaf for number, item in enumerate(value) for leaf in leaves(item, (*path, number)))]
    return [path]


@given(st.data())
def test_any_value_in_any_place_is_read_or_refused(data: st.DataObject) -> None:
    document = score_document([dict(ONE), dict(TWO)])
    path = data.draw(st.sampled_from([leaf for leaf in leaves(document) if leaf]))
    odd = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]), st.just({}))
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = data.draw(odd)
    try:
        decode_score(encoded(document))
    except ScoreError as error:
        assert str(error)


def test_a_missing_document_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    assert read_score(tmp_path / "no.json") == (None, f"{tmp_path / 'no.json'}: missing")
    (tmp_path / "folder.json").mkdir()
    assert "cannot be read" in str(read_score(tmp_path / "folder.json")[1])


def test_a_message_quotes_little_of_a_document() -> None:
    with pytest.raises(ScoreError, match="scored by another version") as found:
        decode_score(encoded({"schema": "x" * 900_000}))
    assert len(str(found.value)) < 200


def test_no_module_of_the_run_folder_quotes_a_value_whole() -> None:
    rooms = [Path(core.runs.__file__).parent]
    whole = [
        f"{path.name}: {ast.unparse(node)}"
        for room in rooms
        for path in room.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FormattedValue)
        and node.conversion == ord("r")
        and not isinstance(node.value, ast.Subscript)
    ]
    assert whole == ["model_files.py: {named!r}"]  # a revision, which the user's own plan names
