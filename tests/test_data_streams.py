"""Batches are a pure function of (seed, index, global row): exact epochs, any hosts, any resume."""

from __future__ import annotations

import itertools
import threading
from collections import Counter

import numpy as np
import pytest

from genjax.data.permutation import _table, permute, shuffled
from genjax.data.rows import Arrays, Windows, Zipped, first
from genjax.data.stream import Stream
from genjax.errors import ConfigError

SIZES = [(1, 1), (5, 8), (12, 4), (13, 4), (97, 10), (256, 256)]


def numbered(n: int) -> Arrays:
    """Rows whose content is their own index."""
    return Arrays({"image": np.arange(n * 4, dtype=np.int32).reshape(n, 2, 2), "label": np.arange(n)})


def read(stream: Stream, count: int) -> list[dict[str, np.ndarray]]:
    return list(itertools.islice(iter(stream), count))


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_array_equal(a[k], b[k], err_msg=k)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 64, 100, 1797, 10007])
def test_permutations_are_bijections_and_change_with_epoch_and_seed(n: int):
    seen = {(s, e): permute(n, s, e, np.arange(n)) for s in (0, 1, -5) for e in (0, 1, 2**40)}
    for p in seen.values():
        np.testing.assert_array_equal(np.sort(p), np.arange(n))
    if n >= 64:
        assert len({p.tobytes() for p in seen.values()}) == len(seen)


def test_all_permutations_of_four_are_equally_likely():
    counts = Counter(tuple(permute(4, 3, epoch, np.arange(4))) for epoch in range(4_800))
    expected = 4_800 / 24
    chi2 = sum((c - expected) ** 2 / expected for c in counts.values())
    assert len(counts) == 24
    assert chi2 < 49.7  # 23 degrees of freedom, p = 0.001


def test_first_row_of_an_epoch_is_uniform_where_the_domain_is_not_square():
    counts = np.bincount([permute(11, 0, e, np.array([0]))[0] for e in range(2200)], minlength=11)
    assert ((counts - 200) ** 2 / 200).sum() < 29.6  # 10 degrees of freedom, p = 0.001


def test_permutations_stay_what_they_are():
    """A resumed run must draw what it would have drawn before an upgrade."""
    assert permute(10, 0, 0, np.arange(10)).tolist() == GOLDEN_TEN
    assert permute(10**12, 7, 3, np.arange(4)).tolist() == GOLDEN_HUGE


GOLDEN_TEN = [0, 7, 1, 5, 9, 6, 4, 8, 2, 3]
GOLDEN_HUGE = [914383970894, 36313433728, 369691702692, 558319395268]


def test_a_table_and_the_network_agree(monkeypatch: pytest.MonkeyPatch):
    positions = np.arange(990, 1130)
    tabled = shuffled(100, 4, positions)
    monkeypatch.setattr("genjax.data.permutation._TABLE", 10)
    np.testing.assert_array_equal(tabled, shuffled(100, 4, positions))


def test_old_epochs_are_forgotten():
    _table.cache_clear()
    stream = Stream(numbered(10), "shuffled", 10)
    for i in range(100):
        stream[i]
    assert _table.cache_info().currsize <= 8


@pytest.mark.parametrize(("n", "batch"), SIZES)
def test_every_epoch_has_every_row_once(n: int, batch: int):
    stream = Stream(numbered(n), "shuffled", batch, seed=1)
    batches = -(-4 * n // batch)
    rows = np.concatenate([stream[i]["label"] for i in range(batches)])[: 4 * n].reshape(4, n)
    for epoch in rows:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(n))
    if n > 10:
        assert (rows[0] != rows[1]).any()


@pytest.mark.parametrize("order", ["shuffled", "lanes", "once"])
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_slices_make_the_single_hosts_batch(order, hosts: int):
    rows = Zipped({"a": numbered(37), "b": numbered(21)}) if order != "lanes" else numbered(37)
    whole = Stream(rows, order, 8, seed=5)
    parts = [Stream(rows, order, 8, seed=5, process=(p, hosts)) for p in range(hosts)]
    count = len(whole) if order == "once" else 12
    if order == "once":
        assert {len(p) for p in parts} == {5}
    for i in range(count):
        slices = [p[i] for p in parts]
        equal(whole[i], {k: np.concatenate([s[k] for s in slices]) for k in slices[0]})


@pytest.mark.parametrize("order", ["shuffled", "lanes", "once"])
def test_iterating_gives_what_indexing_gives_and_resumes_anywhere(order):
    rows = numbered(103)
    stream = Stream(rows, order, 4, seed=2)
    count = len(stream) if order == "once" else 60
    for i, batch in enumerate(read(stream, count)):
        equal(batch, stream[i])
    for start in (1, 17, 25):
        rest = read(Stream(rows, order, 4, seed=2, start=start), count - start)
        assert len(rest) == count - start
        for i, batch in enumerate(rest):
            equal(batch, stream[start + i])


def test_seeds_differ_and_a_seed_repeats():
    a, b, c = (Stream(numbered(500), "shuffled", 100, seed=s)[0]["label"] for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.mark.parametrize(("n", "batch"), SIZES)
def test_once_covers_every_row_and_its_masked_mean_is_the_mean(n: int, batch: int):
    value = np.random.RandomState(0).standard_normal(n)
    stream = Stream(Arrays({"x": value}), "once", batch)
    batches = list(stream)
    assert len(batches) == len(stream) == -(-n // batch)
    assert {b["x"].shape for b in batches} == {(batch,)}
    total = sum((b["x"] * b["mask"]).sum() for b in batches)
    count = sum(b["mask"].sum() for b in batches)
    assert count == n
    assert total / count == pytest.approx(value.mean(), abs=1e-12)
    assert batches[0]["mask"].dtype == np.float32
    with pytest.raises(IndexError):
        stream[len(stream)]


def test_a_finished_or_empty_rest_ends_at_once():
    assert list(Stream(numbered(8), "once", 4, start=2)) == []
    assert len(list(Stream(numbered(9), "once", 4, start=2))) == 1


def test_lanes_go_on_where_they_were_and_say_where_they_do_not():
    tokens = np.arange(1, 1 + 10 * 53, dtype=np.int32)
    stream = Stream(Windows(tokens, 10), "lanes", 4)
    n, before, resets = 52, None, 0
    for i in range(2 * n):
        batch = stream[i]
        for lane in range(4):
            row = batch["tokens"][lane]
            if batch["reset"][lane]:
                assert i == 0 or row[0] == tokens[0]
                resets += i > 0
            else:
                assert before is not None
                assert row[0] == before["tokens"][lane][-1]
        before = batch
    assert resets == 7  # each lane comes to row 0 twice, the first of lane 0 being batch 0


@pytest.mark.parametrize(("n", "batch"), [(52, 4), (53, 4), (7, 7), (100, 9)])
def test_lanes_read_every_row_equally_often(n: int, batch: int):
    stream = Stream(numbered(n), "lanes", batch)
    rows = np.stack([stream[i]["label"] for i in range(n)])
    np.testing.assert_array_equal(np.bincount(rows.ravel(), minlength=n), np.full(n, batch))
    once = rows[: -(-n // batch)]
    assert set(once.ravel()) == set(range(n))


@pytest.mark.parametrize("order", ["shuffled", "lanes", "once"])
def test_skipped_batches_are_left_out(order):
    rows = numbered(40)
    whole, skipping = Stream(rows, order, 4), Stream(rows, order, 4, skip=(7, 2, 3))
    kept = [0, 1, 4, 5, 6, 8, 9]
    assert [skipping.number(i) for i in range(7)] == kept
    for i, batch in enumerate(read(skipping, 7)):
        want = whole[kept[i]]
        if order == "lanes":  # what follows a gap does not continue the lane
            want["reset"] = np.maximum(want["reset"], float(i in (0, 2, 5)))
        equal(batch, want)
        equal(batch, skipping[i])
    if order == "once":
        assert len(skipping) == 7


def test_zipped_sources_have_epochs_and_orders_of_their_own():
    stream = Stream(Zipped({"a": numbered(12), "b": numbered(12)}), "shuffled", 12, seed=3)
    pairs = [tuple(zip(stream[i]["label_a"], stream[i]["label_b"], strict=True)) for i in range(5)]
    for i in range(5):
        for name in ("label_a", "label_b"):
            np.testing.assert_array_equal(np.sort(stream[i][name]), np.arange(12))
    assert len(set(pairs[0]) & set(pairs[1])) < 8  # what stands beside what is not fixed
    uneven = Zipped({"a": numbered(5), "b": numbered(3)})
    assert len(first(uneven, 2)) == 2
    assert sum(b["mask"].sum() for b in Stream(uneven, "once", 2)) == 5


def test_dropping_an_iterator_ends_its_threads():
    def workers() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if t.name.startswith("grain-prefetch")}

    old = workers()
    iterator = iter(Stream(numbered(50), "shuffled", 5))
    next(iterator)
    mine = workers() - old
    assert mine
    iterator.close()  # type: ignore[attr-defined]
    for thread in mine:
        thread.join(5)
    assert not any(t.is_alive() for t in mine)


def test_endless_streams_have_no_length():
    stream = Stream(numbered(50), "shuffled", 8)
    assert stream
    assert stream.steps_per_epoch == pytest.approx(6.25)
    with pytest.raises(TypeError, match="no end"):
        len(stream)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"order": "shufled"}, "did you mean 'shuffled'"),
        ({"batch": 6, "process": (0, 4)}, "multiple of 4"),
        ({"process": (2, 2)}, "no such stream"),
        ({"start": -1}, "no such stream"),
        ({"order": "lanes", "batch": 64}, "50 rows are too few for 64 lanes"),
    ],
)
def test_streams_that_cannot_be(wrong: dict, says: str):
    with pytest.raises(ConfigError, match=says):
        Stream(numbered(50), **{"order": "shuffled", "batch": 8, **wrong})
