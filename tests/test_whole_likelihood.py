"""Likelihoods of whole pieces: the length of a row, the batch and the padding do not matter."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax.data as gd
from genjax import kinds, settings
from genjax.core import Model
from genjax.data.pieces import Pieces
from genjax.evaluation import whole
from genjax.evaluation.likelihood import likelihood
from genjax.models import gpt, rnn
from genjax.music import midi, notes
from genjax.spec import Element, Spec
from genjax.views.frames import frame_nats
from genjax.workflows import assemble, evaluate, sample, train

QUIET = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")
SIZES = (37, 2, 9, 24, 5, 13)
KEYS = 6
RNN = {"layers": 2, "width": 8, "recurrent_dropout": 0.3}
GPT = {"layers": 2, "heads": 2, "width": 16}


class Noisy(Pieces):
    """Rows whose padding is not silent."""

    def __call__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        rows = super().__call__(indices)
        return {**rows, "roll": np.where(rows["segment"][..., None] > 0, rows["roll"], 1).astype(np.uint8)}


def pieces(sizes: tuple[int, ...] = SIZES) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [(random.random((n, KEYS)) < 0.4).astype(np.uint8) for n in sizes]


def held(length: int, form: type[Pieces] = Pieces) -> gd.Split:
    return gd.Split("eval", form(pieces(), length))


def spec(length: int) -> Spec:
    return Spec(
        {
            "roll": Element((length + 1, KEYS), "uint8", 2, "roll", "target"),
            "segment": Element((length + 1,), "int32"),
        }
    )


@functools.cache
def built(module: Any, length: int, **fields: Any) -> tuple[Model, Any]:
    """A model for rows of this length, and variables in which every parameter matters."""
    model = module.build(module.Config(**fields), spec(length))
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), spec(length).example(2), {}))
    fill = lambda x: random.normal(0, 0.4, x.shape).astype(np.float32)
    return model, shapes.replace(params=jax.tree.map(fill, shapes.params))


def in_one(model: Model, variables: Any, rows: list[np.ndarray]) -> list[np.ndarray]:
    """The nats of every frame of each row but its first, given all frames of the row before it."""
    decoder = model.decoder
    assert decoder is not None

    @jax.jit
    def nats(variables: Any, frames: jax.Array) -> jax.Array:
        cache = decoder.start(variables, {}, *frames.shape[:2])
        logits, _ = decoder.step(variables, cache, frames)
        return frame_nats(logits[:, :-1], frames[:, 1:])

    # What follows a row has no effect on its frames: decoders are causal.
    padded = np.stack([np.pad(x, ((0, max(map(len, rows)) - len(x)), (0, 0))) for x in rows])
    found = np.asarray(nats(variables, jnp.asarray(padded, jnp.int32)))
    return [n[: len(x) - 1] for n, x in zip(found, rows, strict=True)]


@pytest.mark.parametrize(
    ("cell", "forms"),
    [("lstm", ((40, 64), (5, 2), (1, 3))), ("elman", ((5, 2),)), ("gru", ((12, 1),))],
)
def test_a_recurrent_state_goes_through_the_whole_piece(cell: str, forms: tuple[tuple[int, int], ...]):
    for length, batch in forms:
        model, variables = built(rnn, length, cell=cell, **RNN)
        found = likelihood(model, variables, held(length), batch=batch)
        want = [nats.sum() for nats in in_one(model, variables, pieces())]
        np.testing.assert_allclose(found.nats, want, rtol=1e-5)
        np.testing.assert_array_equal(found.units, np.array(SIZES) - 1)
        assert (found.part, found.context) == ("piece", "all of the piece")


@pytest.mark.parametrize(("position", "length"), [("learned", 7), ("rope", 8)])
def test_a_transformer_knows_half_a_row_or_more(position: str, length: int):
    model, variables = built(gpt, length, position=position, **GPT)
    found = likelihood(model, variables, held(length), batch=4)
    starts = [range(0, len(x) - 1, length // 2) for x in pieces()]
    rows = [
        x[first : first + length + 1] for x, firsts in zip(pieces(), starts, strict=True) for first in firsts
    ]
    alone = iter(in_one(model, variables, rows))
    for x, firsts, nats, units in zip(pieces(), starts, found.nats, found.units, strict=True):
        total = 0.0
        done = 0  # the last frame that was a target
        for first in firsts:
            row = next(alone)
            new = [t for t in range(first + 1, first + 1 + len(row)) if t > done]
            if new:
                assert first == 0 or new[0] - first > length / 2
                total += row[[t - first - 1 for t in new]].sum()
                done = new[-1]
        np.testing.assert_allclose(nats, total, rtol=1e-5)
        assert units == done == len(x) - 1


def test_pieces_that_fit_a_row_are_known_whole_by_a_transformer():
    model, variables = built(gpt, 40, position="rope", **GPT)
    found = likelihood(model, variables, held(40), batch=len(SIZES))
    want = [nats.sum() for nats in in_one(model, variables, pieces())]
    np.testing.assert_allclose(found.nats, want, rtol=1e-5)


@pytest.mark.parametrize(("module", "fields"), [(rnn, RNN), (gpt, GPT)])
def test_what_stands_on_padding_changes_nothing(module: Any, fields: dict):
    model, variables = built(module, 6, **fields)
    silent, noisy = (likelihood(model, variables, held(6, form), batch=4) for form in (Pieces, Noisy))
    np.testing.assert_array_equal(silent.nats, noisy.nats)
    np.testing.assert_array_equal(silent.units, noisy.units)


def test_without_a_carry_a_recurrent_network_reads_overlapping_rows():
    model, variables = built(rnn, 6, carry=False, **RNN)
    found = likelihood(model, variables, held(6), batch=4)
    assert found.units.tolist() == [n - 1 for n in SIZES]
    assert found.context == "half a row of the piece or more"
    want = [nats.sum() for nats in in_one(model, variables, pieces())]
    np.testing.assert_allclose(found.nats[1], want[1], rtol=1e-5)  # it fits a row
    assert not np.isclose(found.nats[0], want[0], rtol=1e-5)


def test_a_piece_weighs_as_much_as_it_has_frames():
    model, variables = built(rnn, 6, **RNN)
    found = likelihood(model, variables, held(6), batch=4)
    means = [nats.mean() for nats in in_one(model, variables, pieces())]
    weights = np.array([n - 1 for n in SIZES]) / (sum(SIZES) - len(SIZES))
    assert weights.sum() == pytest.approx(1)
    assert found.per_unit().value == pytest.approx(float(weights @ means), rel=1e-5)
    assert "6 independent" in found.per_unit().method
    first = likelihood(model, variables, held(6), batch=4, limit=6)
    np.testing.assert_allclose(first.nats[0], found.nats[0], rtol=1e-6)
    assert first.units.tolist() == [36]


@pytest.mark.parametrize("batch", [1, 2, 5, 50])
def test_lanes_hold_whole_pieces(batch: int):
    rows = Pieces(pieces(), 4)
    assert rows.bounds is not None
    lanes = whole.lanes(rows, batch)
    assert sorted(lanes[lanes >= 0]) == list(range(len(rows)))
    assert lanes.shape[1] == min(batch, len(SIZES))
    begins = set(rows.bounds[:-1].tolist())
    for lane in lanes.T:
        for before, after in itertools.pairwise(lane):
            assert after == -1 or after in begins or after == before + 1
        assert (np.diff((lane >= 0).astype(int)) <= 0).all()  # nothing after its end
    # No lane is longer than an equal share and the longest piece.
    assert len(lanes) <= -(-len(rows) // lanes.shape[1]) + np.diff(rows.bounds).max()
    longest = sorted(np.diff(rows.bounds), reverse=True)[: lanes.shape[1]]
    first = [np.diff(rows.bounds)[np.searchsorted(rows.bounds, row)] for row in lanes[0]]
    assert sorted(first, reverse=True) == longest
    read = list(whole.batches(rows, batch, True))
    assert sum(int(b["mask"].sum()) for b, _ in read) == len(rows)
    for b, index in read:
        np.testing.assert_array_equal(b["reset"][b["mask"] > 0], np.isin(index, list(begins))[b["mask"] > 0])


def test_rows_that_are_no_parts_of_pieces_are_scored_as_they_were():
    model, variables = built(gpt, 40, position="rope", **GPT)
    rows = gd.Split("eval", Pieces(pieces(), 40).select(np.arange(len(SIZES))))
    found = likelihood(model, variables, rows, batch=len(SIZES))
    assert (found.part, found.context) == ("row", "its row alone")
    pieces_found = likelihood(model, variables, held(40), batch=len(SIZES))
    np.testing.assert_allclose(found.nats, pieces_found.nats, rtol=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, assemble.Trained]:
    """A short training on a folder of MIDI files, whose pieces are longer than a row."""
    root = tmp_path_factory.mktemp("rolls")
    random = np.random.default_rng(0)
    for i in range(24):
        x = (random.random((40 + i, 88)) < 0.05).astype(np.uint8)
        midi.write(root / "midi" / f"{i}.mid", notes.notes_of_roll(x), len(x))
    fields = (f"data.name=rolls:{root / 'midi'}", "data.length=16")
    resolved = settings.complete(settings.load("chorales/lstm:smoke", (*QUIET, *fields)))
    train.train(resolved, root / "run", devices=jax.devices()[:1])
    return root, assemble.restore(root / "run")


def test_a_folder_of_midi_files_trains_and_is_scored(run: tuple[Path, assemble.Trained]):
    root, trained = run
    scores = evaluate.evaluate(trained, None, overrides={"metrics": ("likelihood",)})
    (score,) = scores
    assert score.name == "nats_per_frame/exact"
    assert score.detail["context"] == "all of the piece"
    assert 0 < score.value < 88 * np.log(2) * 1.5
    rows = sample.draw(trained, 2)
    path = kinds.save_rows(trained.experiment.dataset.spec, rows, root / "drawn")
    assert {path.with_suffix(s).exists() for s in (".png", ".mid", ".wav")} == {True}
    found, steps = midi.read(path.with_suffix(".mid"), per_quarter=4)
    assert steps == 17 + 16 + 17  # two rows of 17 frames, and a bar of silence
    got = notes.roll_of_notes(found, steps)[0]
    np.testing.assert_array_equal(got[:17], rows["roll"][0])
    np.testing.assert_array_equal(got[-17:], rows["roll"][1])
