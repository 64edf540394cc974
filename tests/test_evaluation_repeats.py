"""Scores of several trainings become one row, with an interval over the trainings."""

from __future__ import annotations

import numpy as np
import pytest

from genjax.errors import ProtocolError
from genjax.evaluation.repeats import of_trainings
from genjax.evaluation.scores import Score


def training(value: float, **more) -> list[Score]:
    detail = {"sets": 3, "interval": "t over 3 independent sets", "weights": "eval"}
    return [
        Score("frechet", value, value - 0.01, value + 0.01, "lower", detail=detail, **more),
        Score("parameters", 100.0, criterion="cost"),
    ]


def test_the_interval_has_the_coverage_that_it_states():
    """Over 400 repetitions of three trainings, 95% of the intervals contain the mean of all trainings."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        (found, _) = of_trainings([training(v) for v in rng.normal(5.0, 0.7, 3)])
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 5.0 <= found.high
    assert inside / 400 == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 400) ** 0.5)


def test_what_all_trainings_share_is_kept():
    found, size = of_trainings([training(1.0), training(2.0), training(6.0)])
    assert found.value == pytest.approx(3.0)
    assert found.detail["weights"] == "eval"
    assert str(found.detail["interval"]).startswith("over 3 trainings with different seeds")
    assert found.detail["values"] == "1, 2, 6"
    assert (size.value, size.low) == (100.0, None)
    less = [training(1.0), training(2.0)[:1]]
    assert [s.name for s in of_trainings(less)] == ["frechet"]


def test_trainings_that_are_all_alike_keep_the_error_of_measurement():
    """Samples of a table of counts vary, although its trainings do not."""
    found, _ = of_trainings([training(2.0)] * 3)
    assert (found.low, found.high) == pytest.approx((1.99, 2.01))
    lopsided = Score("accuracy", 0.9, 0.8, 0.94)
    (found,) = of_trainings([[lopsided]] * 3)
    assert (found.low, found.high) == pytest.approx((0.8, 0.94))


def test_trainings_that_were_measured_differently_are_refused():
    with pytest.raises(ProtocolError, match="training 2"):
        of_trainings([training(1.0), training(2.0, protocol={"samples": 3})])
