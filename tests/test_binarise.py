"""Black and white images: thresholds, draws of the right probability, streams that repeat their draws."""

from __future__ import annotations

import numpy as np
import pytest

from genjax.data import load
from genjax.data.binarise import Binarised, uniform
from genjax.data.rows import Arrays
from genjax.data.stream import Stream
from genjax.errors import DataError

LEVELS = 17


def grey(rows: int = 40, side: int = 6) -> Arrays:
    image = np.arange(rows * side * side).reshape(rows, side, side, 1) % LEVELS
    return Arrays({"image": image.astype(np.uint8), "label": np.arange(rows)})


def drawn() -> Binarised:
    return Binarised(grey(), {"image": LEVELS}, draw=True)


def test_a_threshold_divides_the_levels_in_the_middle():
    rows = Binarised(grey(), {"image": LEVELS}, draw=False)(np.arange(40))
    before = grey()(np.arange(40))
    np.testing.assert_array_equal(rows["image"], before["image"] >= 9)
    np.testing.assert_array_equal(rows["label"], before["label"])


def test_pixels_are_white_with_the_probability_of_their_level():
    seen = np.zeros((40, 6, 6, 1))
    stream = Stream(drawn(), "shuffled", 40, seed=3)
    for i in range(400):
        batch = stream[i]
        seen[batch["label"]] += batch["image"]
    level = grey()(np.arange(40))["image"]
    p = level / (LEVELS - 1)
    assert (seen[level == 0] == 0).all()
    assert (seen[level == LEVELS - 1] == 400).all()
    z = (seen - 400 * p)[(p > 0) & (p < 1)] / np.sqrt(400 * p * (1 - p))[(p > 0) & (p < 1)]
    assert abs(z.mean()) < 0.15
    assert 0.9 < z.std() < 1.1


def test_draws_differ_between_presentations_and_repeat_on_resumption():
    stream = Stream(drawn(), "shuffled", 10, seed=1)
    first = {int(n): x for i in range(4) for n, x in zip(stream[i]["label"], stream[i]["image"], strict=True)}
    second = {
        int(n): x for i in range(4, 8) for n, x in zip(stream[i]["label"], stream[i]["image"], strict=True)
    }
    assert sum((first[n] != second[n]).any() for n in range(40)) == 40
    np.testing.assert_array_equal(
        Stream(drawn(), "shuffled", 10, seed=1, start=5)[6]["image"], stream[6]["image"]
    )
    halves = [Stream(drawn(), "shuffled", 10, seed=1, process=(i, 2))[6]["image"] for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(halves), stream[6]["image"])


def test_an_evaluation_always_reads_the_same_pixels():
    rows = drawn()
    once = np.concatenate([Stream(rows, "once", 8)[i]["image"] for i in range(5)])
    np.testing.assert_array_equal(once, rows(np.arange(40))["image"])
    np.testing.assert_array_equal(once[5:9], rows(np.arange(5, 9))["image"])
    np.testing.assert_array_equal(rows.first(7)(np.arange(7))["image"], once[:7])


def test_numbers_are_uniform_and_uncorrelated():
    x = uniform(0, np.arange(500), 200)
    assert x.dtype == np.float32
    assert x.min() >= 0
    assert x.max() < 1
    counts = np.histogram(x, 20, (0, 1))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8  # 19 degrees of freedom, p = 0.001
    for a, b in ((x[:-1], x[1:]), (x[:, :-1], x[:, 1:]), (x, uniform(1, np.arange(500), 200))):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.015


def test_a_dataset_says_that_it_has_two_levels():
    plain, threshold, draws = (load(name="digits", binarise=how) for how in (None, "threshold", "draw"))
    assert plain.spec["image"].levels == 17
    assert threshold.spec["image"].levels == draws.spec["image"].levels == 2
    assert len({d.fingerprint for d in (plain, threshold, draws)}) == 3
    assert set(np.unique(draws.eval.rows(range(9))["image"])) == {0, 1}
    with pytest.raises(DataError, match=r"data\.binarise needs images"):
        load(name="ring", binarise="draw")
