"""Fréchet distance, KID, PRDC, neighbours, diversity and intervals against closed forms and hand counts."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from genjax.evaluation import frechet, intervals
from genjax.evaluation.distances import nearest
from genjax.evaluation.metrics import accuracy, diversity, kid, modes
from genjax.evaluation.metrics.neighbours import memorisation
from genjax.evaluation.prdc import Manifold, prdc


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- Fréchet ---------------------------------------------------------------------------------------


def test_frechet_between_gaussians_has_its_closed_form():
    a = np.asarray([1.0, 4.0, 9.0])
    b = np.asarray([4.0, 1.0, 16.0])
    # Commuting covariances: the sum of (sqrt(a) - sqrt(b))^2, = 1 + 1 + 1, and the means' gap 14.
    mean = np.asarray([1.0, 2.0, 3.0])
    got = frechet.gaussian_distance(np.zeros(3), np.diag(a), mean, np.diag(b))
    assert got == pytest.approx(14 + 3, rel=1e-12)
    # Any rotation of both leaves it as it is.
    q, _ = np.linalg.qr(rng().normal(size=(3, 3)))
    turned = frechet.gaussian_distance(np.zeros(3), q @ np.diag(a) @ q.T, q @ mean, q @ np.diag(b) @ q.T)
    assert turned == pytest.approx(17, rel=1e-10)


def test_frechet_with_singular_covariances():
    # Rank 1 along e1 against rank 1 along e2: no overlap, so the traces add.
    e1 = np.diag([4.0, 0.0, 0.0])
    e2 = np.diag([0.0, 9.0, 0.0])
    zero = np.zeros(3)
    assert frechet.gaussian_distance(zero, e1, zero, e2) == pytest.approx(13, rel=1e-12)
    assert frechet.gaussian_distance(zero, e1, zero, e1) == pytest.approx(0, abs=1e-10)
    assert frechet.gaussian_distance(zero, np.zeros((3, 3)), zero, e2) == pytest.approx(9, rel=1e-12)
    # Fewer rows than dimensions; the distance of a set to itself is zero, and to its shift the shift.
    x = rng().normal(size=(10, 40))
    assert frechet.frechet(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet.frechet(x, x + 0.5) == pytest.approx(10, rel=1e-6)
    assert frechet.frechet(x, np.repeat(x[:1], 10, 0)) > 0


def test_moments_stream_exactly_even_far_from_zero():
    x = rng().normal(size=(103, 5)) + 1e6
    parts = functools.reduce(lambda a, b: a + b, (frechet.Moments.of(p) for p in np.array_split(x, 7)))
    np.testing.assert_allclose(parts.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(parts.covariance, np.cov(x, rowvar=False), rtol=1e-7, atol=1e-9)


# --- KID -------------------------------------------------------------------------------------------


def test_kid_equals_its_definition():
    x = rng(1).normal(size=(9, 4))
    y = rng(2).normal(size=(7, 4))
    k = lambda a, b: (a @ b / 4 + 1) ** 3
    xx = np.mean([k(x[i], x[j]) for i in range(9) for j in range(9) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(7) for j in range(7) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    for chunk in (1, 3, 100):
        assert kid.kid(x, y, chunk=chunk) == pytest.approx(xx + yy - 2 * xy, rel=1e-10)


def test_kid_is_unbiased_at_any_count():
    values = [
        kid.kid(rng(2 * i).normal(size=(6, 3)), rng(2 * i + 1).normal(size=(11, 3))) for i in range(800)
    ]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert error < 0.3
    # Leaving the diagonals in would show: the biased estimator's mean is far from zero.
    x = rng(0).normal(size=(300, 3))
    y = rng(1).normal(size=(300, 3)) + 1
    subsets = kid.kid(x, y, subset=40, subsets=300, seed=3)
    assert subsets == pytest.approx(kid.kid(x, y), rel=0.1)


# --- distances, PRDC --------------------------------------------------------------------------------


def brute_prdc(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, ...]:
    gap = lambda a, b: ((a[:, None].astype(np.float64) - b[None]) ** 2).sum(-1)
    r = np.sort(gap(real, real), 1)[:, k]
    f = np.sort(gap(fake, fake), 1)[:, k]
    d = gap(real, fake)
    inside = d < r[:, None]
    held = d < f[None]
    return inside.any(0).mean(), held.any(1).mean(), inside.sum() / (k * len(fake)), inside.any(1).mean()


def test_prdc_by_hand():
    real = np.asarray([[0.0], [1.0], [2.0], [10.0]])  # radii at k=1: 1, 1, 1, 8
    fake = np.asarray([[0.5], [3.5], [30.0]])  # radii: 3, 3, 26.5
    # 0.5 is in the balls of 0 and 1; 3.5 in that of 10; 30 in none.
    got = prdc(real, fake, k=1)
    assert got.precision == pytest.approx(2 / 3)
    assert got.density == pytest.approx(3 / 3)
    assert got.coverage == pytest.approx(3 / 4)
    assert got.recall == pytest.approx(1.0)  # 0, 1, 2 within 3 of 0.5; 10 within 26.5 of 30
    # On the sphere is outside: the balls are open.
    assert prdc(real, np.asarray([[3.0], [300.0]]), k=1).precision == pytest.approx(1 / 2)


@pytest.mark.parametrize("kind", ["gaussian", "far", "integers", "duplicates", "copies"])
@pytest.mark.parametrize(("n", "m", "dim"), [(90, 70, 3), (40, 60, 200)])
def test_prdc_equals_float64_for_every_chunk(kind: str, n: int, m: int, dim: int):
    real = rng(1).normal(size=(n, dim))
    fake = 0.9 * rng(2).normal(size=(m, dim)) + 0.1
    if kind == "far":  # cancellation: float32 products alone would lose every digit
        real = real + 1e4
        fake = fake + 1e4
    if kind == "integers":  # ties
        real = np.round(real)
        fake = np.round(fake)
    if kind == "duplicates":
        real[::3] = real[0]
        fake[:] = fake[0]
    if kind == "copies":
        fake = np.concatenate([real[:20], fake[20:]])
    want = brute_prdc(real, fake, 4)
    for chunk in (None, 13):
        np.testing.assert_allclose(prdc(real, fake, 4, chunk=chunk), want, rtol=1e-12)
    np.testing.assert_allclose(prdc(Manifold.of(real, 4), fake), want, rtol=1e-12)


def test_nearest_is_exact_and_reports_progress():
    points = rng(1).normal(size=(57, 6)).astype(np.float32) + 300
    queries = rng(2).normal(size=(31, 6)).astype(np.float32) + 300
    d = np.sqrt(((queries[:, None].astype(np.float64) - points[None]) ** 2).sum(-1))
    seen: list[tuple[int, int]] = []
    distances, index = nearest(queries, points, 3, chunk=10, progress=lambda *x: seen.append(x))
    np.testing.assert_array_equal(index, np.argsort(d, 1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(d, 1)[:, :3], rtol=1e-12)
    assert seen == [(10, 31), (20, 31), (30, 31), (31, 31)]
    own, index = nearest(points, points, 1, exclude_self=True)
    assert (own > 0).all()
    assert (index[:, 0] != np.arange(57)).all()
    with pytest.raises(ValueError, match="neighbours"):
        nearest(points[:3], points[:3], 3, exclude_self=True)
    with pytest.raises(ValueError, match="not finite"):
        nearest(points, points * np.nan, 1)


def test_near_ties_are_settled_in_float64():
    directions = rng(3).normal(size=(40, 5))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    order = rng(4).permutation(40)
    points = directions * (1 + 1e-9 * order[:, None])  # float32 sees one radius
    distances, index = nearest(np.zeros((1, 5)), points, 3)
    np.testing.assert_array_equal(order[index[0]], [0, 1, 2])
    np.testing.assert_allclose(distances[0], 1 + 1e-9 * np.arange(3), rtol=1e-12)
    real = np.concatenate([np.zeros((1, 5)), [[1, 0, 0, 0, 0]], 50 + 9 * rng(5).normal(size=(4, 5))])
    for radius, inside in ((1 - 1e-9, 0.5), (1 + 1e-9, 0.0)):  # the ball of 0 has radius 1
        fake = np.asarray([[0, -radius, 0, 0, 0], [0, 0, 0, -300, 0]])
        assert prdc(real, fake, 1).precision == inside


# --- memorisation, diversity ------------------------------------------------------------------------


def test_memorisation_tells_copies_from_fresh_and_from_far():
    train, held_out, fresh = (rng(s).normal(size=(n, 5)) for s, n in ((0, 300), (1, 200), (2, 200)))
    same = memorisation(fresh, train, held_out)
    assert 0.43 < same.nearer < 0.57
    assert same.p_value > 0.01
    assert same.copies == 0
    copied = memorisation(np.concatenate([train[:100], fresh[:100]]), train, held_out)
    assert copied.copies == 0.5
    assert copied.nearer > 0.7
    assert copied.p_value < 1e-6
    assert copied.authenticity < 0.6 * same.authenticity + 0.1
    far = memorisation(fresh + 20, train, held_out)
    assert far.nearer == 0
    assert far.authenticity == 1


def test_mean_pairwise_distance():
    square = np.asarray([[0.0, 0], [1, 0], [0, 1], [1, 1]]) + 50
    want = (4 * 1 + 2 * np.sqrt(2)) / 6
    for chunk in (1, 3, None):
        assert diversity.mean_pairwise_distance(square, chunk=chunk) == pytest.approx(want, rel=1e-5)
    assert diversity.mean_pairwise_distance(np.full((10, 7), 3.3)) == 0


def test_modes_found_and_in_even_use():
    centres = np.asarray([[0.0, 0], [1, 0], [0, 1]])
    points = np.asarray([[0.0, 0], [0.02, 0], [1, 0.29], [1, 0.31], [0.5, 0.5]])
    got = modes.modes(points, centres, std=0.1)
    assert (got.found, got.total, got.high_quality) == (2, 3, 0.6)
    p = np.asarray([2 / 3, 1 / 3])
    assert got.divergence == pytest.approx((p * np.log(3 * p)).sum())
    assert modes.modes(points + 100, centres, 0.1).divergence == pytest.approx(np.log(3))
    assert accuracy.effective_classes(np.asarray([0, 1, 2, 3]), 10) == pytest.approx(4)
    assert accuracy.effective_classes(np.asarray([7, 7, 7]), 10) == pytest.approx(1)


# --- intervals --------------------------------------------------------------------------------------


def covered(low: float | None, high: float | None, truth: float) -> bool:
    assert low is not None
    assert high is not None
    return low <= truth <= high


def test_intervals_of_independent_sets_cover_the_expected_frechet_distance():
    reference = frechet.Moments.of(rng(99).normal(size=(2000, 3)))
    draw = lambda seed: frechet.distance(reference, frechet.Moments.of(rng(seed).normal(size=(60, 3))))
    values = np.asarray([draw(s) for s in range(3000)])
    truth = values.mean()
    sets = values.reshape(600, 5)
    hits = [covered(i.low, i.high, truth) for i in map(intervals.of_sets, sets.tolist())]
    assert 0.92 < np.mean(hits) < 0.98


def test_subsampling_covers_where_the_naive_bootstrap_does_not():
    reference = frechet.Moments.of(rng(99).normal(size=(2000, 10)))
    statistic = lambda x: frechet.distance(reference, frechet.Moments.of(x))
    sample = lambda seed: 0.25 + rng(seed).normal(size=(60, 10))
    truth = np.mean([statistic(sample(s)) for s in range(2000)])
    halves = []
    bootstrap = []
    for seed in range(5000, 5120):
        x = sample(seed)
        (i,) = intervals.subsampling(lambda rows, x=x: statistic(x[rows]), 60, seed=seed)
        halves.append(covered(i.low, i.high, truth))
        draws = [statistic(x[rng(seed * 100 + b).integers(0, 60, 60)]) for b in range(40)]
        bootstrap.append(covered(*np.quantile(draws, [0.025, 0.975]), truth))
    assert 0.88 < np.mean(halves) <= 1
    assert np.mean(bootstrap) < np.mean(halves) - 0.1


def test_wilson_and_ratio_cover():
    successes = rng(1).binomial(40, 0.95, size=2000)
    hits = [covered(i.low, i.high, 0.95) for i in (intervals.wilson(int(s), 40) for s in successes)]
    assert 0.93 < np.mean(hits) < 0.99
    full = intervals.wilson(10, 10)
    assert (full.value, full.high) == (1, 1)
    assert full.low == pytest.approx(0.7225, abs=1e-4)  # a published table's value

    def ratio(seed):
        g = rng(seed)
        length = g.integers(1, 30, 80)
        return intervals.of_ratio(length * (2 + g.normal(0, 1, 80)), length)

    hits = [covered(i.low, i.high, 2) for i in map(ratio, range(1000))]
    assert 0.92 < np.mean(hits) < 0.98
