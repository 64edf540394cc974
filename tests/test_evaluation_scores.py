"""Scores: what they refuse, their file, and the table that never mixes protocols."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from genjax.errors import DataError, ProtocolError
from genjax.evaluation.scores import Definition, Score, read, table, write


def score(name: str = "frechet", value: float = 1.5, **changes) -> Score:
    fields = {"protocol": {"samples": 100, "features": "abc"}, "detail": {"steps": 10}, "better": "lower"}
    return Score(name, value, value - 1, value + 1, **{**fields, **changes})


def test_scores_survive_their_file(tmp_path):
    scores = [score(), score("kid", np.float32(0.25)), Score("parameters", 3, criterion="cost")]
    path = tmp_path / "scores.json"
    write(path, scores)
    assert read(path) == scores
    assert isinstance(json.loads(path.read_text()), list)
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "scores.json"
    write(path, [score()])
    broken = score()
    object.__setattr__(broken, "value", float("nan"))
    with pytest.raises(ValueError, match="nan"):
        write(path, [broken])
    assert read(path) == [score()]
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


@pytest.mark.parametrize(
    "changes",
    [
        {"value": float("nan")},
        {"value": float("inf")},
        {"low": float("nan")},
        {"low": 2.0, "high": 1.0},
        {"better": "bigger"},
        {"criterion": "beauty"},
        {"protocol": {"k": [1, 2]}},
        {"protocol": {"k": float("nan")}},
    ],
)
def test_what_is_not_a_number_or_not_flat_is_refused(changes):
    with pytest.raises(ValueError, match="score 'x'"):
        Score(**{"name": "x", "value": 1.0, **changes})


def test_a_file_that_holds_no_scores_is_a_clear_error(tmp_path):
    path = tmp_path / "scores.json"
    for text in ('{"a": 1}', "[1]", '[{"value": 1}]', "[", '[{"name": "a", "value": NaN}]'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"scores\.json"):
            read(path)


def test_table_has_a_column_for_each_name_and_knows_the_best():
    columns = table(
        {"real": [score(value=0.1)], "a": [score(value=2), score("kid", 1)], "b": [score(value=1)]}
    )
    assert [c.name for c in columns] == ["frechet", "kid"]
    assert list(columns[0].scores) == ["real", "a", "b"]
    assert list(columns[1].scores) == ["a"]
    assert columns[0].best() == "real"
    assert columns[0].best(exclude=["real"]) == "b"


def test_details_may_differ_and_protocols_may_not():
    table({"a": [score()], "b": [score(detail={"steps": 50, "temperature": 0.9})]})
    with pytest.raises(ProtocolError, match=r"'frechet'.*'samples'.*'a' has 100, 'b' has 200"):
        table({"a": [score()], "b": [score(protocol={"samples": 200, "features": "abc"})]})
    with pytest.raises(ProtocolError, match=r"'features'.*'b' has no such key"):
        table({"a": [score()], "b": [score(protocol={"samples": 100})]})
    with pytest.raises(ProtocolError, match=r"'k'.*'a' has no such key, 'b' has 5"):
        table({"a": [score()], "b": [score(protocol={"samples": 100, "features": "abc", "k": 5})]})
    with pytest.raises(ProtocolError, match="'unit'"):
        table({"a": [score()], "b": [score(unit="nats")]})
    with pytest.raises(ProtocolError, match="'better'"):
        table({"a": [score()], "b": [score(better="higher")]})
    with pytest.raises(ProtocolError, match="two scores"):
        table({"a": [score(), score()]})
    # The first two agree, the third does not: every row is compared.
    with pytest.raises(ProtocolError, match="'c' has 7"):
        table({"a": [score()], "b": [score()], "c": [score(protocol={"samples": 7, "features": "abc"})]})


def test_config_and_scores_import_no_jax():
    code = "import sys, genjax.evaluation as e; e.Config(); e.table({}); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_labels_and_meanings_are_kept_and_not_compared(tmp_path):
    definition = Definition("Fréchet distance", "lower", "realism", "distance of features")
    named = definition.score("frechet", 1.0, {"samples": 100}, {}, low=0.5)
    assert (named.low, named.high, named.label, named.meaning) == (
        0.5,
        None,
        "Fréchet distance",
        definition.meaning,
    )
    write(tmp_path / "scores.json", [named])
    assert read(tmp_path / "scores.json") == [named]
    older = Score("frechet", 2.0, better="lower", protocol={"samples": 100})
    (column,) = table({"older": [older], "newer": [named]})
    assert (column.label, column.meaning) == (named.label, named.meaning)
    assert column.best() == "newer"
