"""Quantisers and codecs of discrete codes: closed forms, enumerations, round trips, dead codes revived."""

from __future__ import annotations

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Element, Spec, row_keys
from genjax.errors import ConfigError
from genjax.functional import quantise
from genjax.functional.quantise import Codebook
from genjax.models import vqvae
from genjax.nn import quantisers

RNG = np.random.default_rng(0)
SPEC = Spec({"image": Element((8, 8, 1), "uint8", 16, kind="image", role="target")})
OPTIONS = {
    "vector": {"codes": 16, "features": 4},
    "residual": {"codes": 16, "features": 4, "depth": 3},
    "scalar": {"quantiser": "scalar", "levels": (4, 3)},
    "signs": {"quantiser": "signs", "codes": 16},
    "gumbel": {"quantiser": "gumbel", "codes": 16, "features": 4},
}


def features(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def batch_of(rows: int = 6) -> dict[str, jax.Array]:
    image = jnp.asarray(RNG.integers(0, 16, (rows, 8, 8, 1)), jnp.uint8)
    return {"image": image, "mask": jnp.ones(rows)}


def keys(n: int = 6) -> jax.Array:
    return row_keys(jax.random.key(0), 0, jnp.arange(n))


@functools.cache
def made(name: str):
    """(the model, its fitted variables, a batch)."""
    model = vqvae.build(vqvae.Config(width=8, blocks=1, halvings=1, **OPTIONS[name]), SPEC)
    batch = batch_of()
    assert model.fit is not None
    variables = jax.jit(lambda key: model.init(key, batch, {}))(jax.random.key(0))
    return model, jax.jit(model.fit)(variables, batch, keys()), batch


# --- functions -------------------------------------------------------------------------------------------


def test_the_nearest_code_is_that_of_a_search():
    z, codes = features(50, 3), features(7, 3)
    distance = jnp.square(z[:, None] - codes[None]).sum(-1)
    np.testing.assert_array_equal(quantise.nearest(z, codes), distance.argmin(-1))


def test_straight_through_gives_the_gradient_to_the_features():
    z, q, slope = features(4, 3), features(4, 3), features(4, 3)
    value, back = jax.vjp(lambda z, q: quantise.straight_through(z, q), z, q)
    np.testing.assert_allclose(value, q, atol=1e-6)
    np.testing.assert_array_equal(back(slope)[0], slope)
    np.testing.assert_array_equal(back(slope)[1], jnp.zeros_like(q))


def test_averages_follow_the_paper():
    """Equations 6 to 8 as loops, on a codebook of which one code gets nothing."""
    book = Codebook(features(4, 3), jnp.asarray([2.0, 1.0, 3.0, 0.5]), features(4, 3))
    z, index = features(10, 3), jnp.asarray([0, 1, 1, 0, 2, 2, 2, 0, 1, 0])
    weight = jnp.asarray([1.0] * 9 + [0.0])
    count, total = quantise.assigned(z, index, weight, 4)
    after = quantise.averaged(book, count, total, 0.9)
    for k in range(4):
        n = 0.9 * float(book.count[k])
        m = 0.9 * np.asarray(book.total[k])
        for i in range(9):
            if index[i] == k:
                n += 0.1
                m = m + 0.1 * np.asarray(z[i])
        assert float(after.count[k]) == pytest.approx(n, rel=1e-6)
        np.testing.assert_allclose(after.codes[k], m / n, rtol=2e-4)


def test_dead_codes_become_features_and_live_ones_stay():
    book = Codebook(features(5, 3), jnp.asarray([1.0, 0.01, 2.0, 0.0, 1.0]), features(5, 3))
    z = features(6, 3)
    score = jnp.asarray([-3.0, -0.1, -jnp.inf, -4.0, -0.2, -jnp.inf])
    after = quantise.revived(book, z, score, 0.1)
    np.testing.assert_array_equal(after.codes[jnp.asarray([0, 2, 4])], book.codes[jnp.asarray([0, 2, 4])])
    # The two features with the highest scores; those of padding are -inf.
    np.testing.assert_array_equal(after.codes[1], z[1])
    np.testing.assert_array_equal(after.codes[3], z[4])
    dead = jnp.asarray([1, 3])
    np.testing.assert_allclose(after.total[dead] / after.count[dead][:, None], after.codes[dead], rtol=1e-5)
    crowded = quantise.revived(book._replace(count=jnp.zeros(5)), z[:3], score[:3], 0.1)
    assert {tuple(row) for row in np.asarray(crowded.codes)} == {tuple(row) for row in np.asarray(z[:2])}


def test_dead_codes_are_drawn_in_proportion_to_the_distance():
    keys = jax.random.split(jax.random.key(0), 4000)
    distance = jnp.asarray([1.0, 2.0, 5.0, 0.0, 9.0])
    weight = jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.0])
    first = jax.vmap(
        lambda key: quantise.by_distance(jax.random.uniform(key, (5,)), distance, weight).argmax()
    )
    share = np.bincount(first(keys), minlength=5) / 4000
    np.testing.assert_allclose(share, [1 / 8, 2 / 8, 5 / 8, 0, 0], atol=0.03)


def test_kmeans_moves_means_without_features():
    """Of 60 rows 58 are equal, as patches of the background are; three means still find the three values."""
    z = jnp.zeros((60, 2)).at[30].set(jnp.asarray([3.0, 0.0])).at[50].set(jnp.asarray([0.0, 5.0]))
    means = quantise.kmeans(z, jnp.ones(60), 3, 3)
    assert {tuple(row) for row in np.asarray(means)} == {(0.0, 0.0), (3.0, 0.0), (0.0, 5.0)}


def test_standardised_features_are_those_of_flax():
    """The batch statistics and their moving averages are those of nn.BatchNorm without scale and shift."""
    q = quantisers.Scalars((8, 6, 5))
    state = q.state(jax.random.key(0))
    norm = nn.BatchNorm(
        momentum=quantisers.DECAY,
        epsilon=1e-6,
        use_scale=False,
        use_bias=False,
        use_fast_variance=False,
    )
    theirs = norm.init(jax.random.key(0), features(4, 2, 2, 3), use_running_average=False)
    for n in range(3):
        z = 0.01 * features(4, 2, 2, 3) * (n + 1) + n
        ours, state = q.standardised(state, z, jnp.ones(4), jnp.int32(n))
        expected, theirs = norm.apply(theirs, z, use_running_average=False, mutable=["batch_stats"])
        np.testing.assert_allclose(ours, expected, atol=1e-4)
    np.testing.assert_allclose(state["standard"].mean, theirs["batch_stats"]["mean"], rtol=1e-5)
    np.testing.assert_allclose(state["standard"].variance, theirs["batch_stats"]["var"], rtol=1e-4)
    held, same = q.standardised(state, z, jnp.ones(4), None)
    np.testing.assert_allclose(held, norm.apply(theirs, z, use_running_average=True), rtol=1e-4, atol=1e-4)
    assert same is state


def test_fitted_counts_are_those_of_a_training_step():
    """The rows to fit on are more than those of a step, whose features would otherwise weigh less."""
    q = quantisers.Vector(8, 3, 2, 0.25, 0.99, 0.1, 5)
    z = features(64, 2, 2, 3)
    fitted = q.fit(q.state(jax.random.key(0), positions=32), z, jnp.ones(64))
    for book in fitted.values():
        assert float(book.count.sum()) == pytest.approx(32, rel=0.01)
    first = fitted["book_000"]
    rows = z.reshape(-1, 3)
    _, total = quantise.assigned(rows, quantise.nearest(rows, first.codes), jnp.ones(256), 8)
    np.testing.assert_allclose(first.total, total / 8, rtol=1e-4, atol=1e-4)


def test_features_that_hardly_vary_use_many_codes():
    z = 3.0 + 1e-3 * features(64, 4, 4, 3)
    q = quantisers.Scalars((8, 6, 5))
    state = q.fit(q.state(jax.random.key(0)), z, jnp.ones(64))
    index = q.quantise({}, state, z, jnp.ones(64), None, None).index
    assert len(np.unique(index)) > 100


def test_the_decoder_starts_at_the_mean_of_real_images():
    model, variables, batch = made("scalar")
    mean = np.asarray(batch["image"], np.float32).mean(0) * 2 / 15 - 1
    np.testing.assert_allclose(variables.state["mean"], mean, atol=1e-5)
    codec = model.codec
    assert codec is not None
    codes = codec.encode(variables, batch)
    moved = variables.replace(state={**variables.state, "mean": variables.state["mean"] + 0.5})
    shown = [np.asarray(codec.decode(v, codes)["image"], np.float32) for v in (variables, moved)]
    inside = (shown[0] > 0) & (shown[1] < 15)
    np.testing.assert_allclose((shown[1] - shown[0])[inside], 0.5 * 15 / 2, atol=1.0)


def test_kmeans_finds_separated_clusters():
    centres = jnp.asarray([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    z = jnp.concatenate(
        [centres[i % 3][None] + 0.1 * features(1, 2) for i in range(30)] + [jnp.full((5, 2), 99.0)]
    )
    weight = jnp.asarray([1.0] * 30 + [0.0] * 5)
    means = quantise.kmeans(z, weight, 3, 10)
    order = jnp.argsort(means @ jnp.asarray([1.0, 2.0]))
    np.testing.assert_allclose(means[order], centres, atol=0.15)


@pytest.mark.parametrize("levels", [(3,), (8, 5), (2, 4, 7)])
def test_scalars_number_every_code_once(levels: tuple[int, ...]):
    size = int(np.prod(levels))
    q = quantise.fsq_codes(jnp.arange(size), levels)
    assert len({tuple(row) for row in np.asarray(q)}) == size
    assert float(jnp.abs(q).max()) <= 1
    np.testing.assert_array_equal(quantise.fsq_index(q, levels), jnp.arange(size))
    # Every code is reached, and nothing lies outside.
    grid = np.linspace(-9, 9, 61 if len(levels) < 3 else 37)
    z = jnp.asarray(list(itertools.product(grid, repeat=len(levels))), jnp.float32)
    index = quantise.fsq_index(quantise.fsq(z, levels), levels)
    assert set(np.asarray(index).tolist()) == set(range(size))
    middle = quantise.fsq(jnp.zeros((1, len(levels))), levels)
    np.testing.assert_allclose(middle, jnp.zeros_like(middle), atol=1e-6)


def test_scalars_pass_the_gradient_of_their_bound():
    z = features(20, 2)
    L = 5
    gradient = jax.grad(lambda z: quantise.fsq(z, (L, L)).sum())(z)
    half = (L - 1) * (1 + quantise.MARGIN) / 2
    np.testing.assert_allclose(gradient, half * (1 - jnp.tanh(z) ** 2) / (L // 2), rtol=1e-5)


def test_signs_number_every_code_once():
    q = quantise.lfq_codes(jnp.arange(16), 4)
    np.testing.assert_array_equal(quantise.lfq_index(q), jnp.arange(16))
    np.testing.assert_array_equal(quantise.lfq(q * 0.3), q)


def test_entropies_of_signs_are_those_of_an_enumeration(monkeypatch):
    z = features(6, 3)
    weight = jnp.asarray([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    codes = quantise.lfq_codes(jnp.arange(8), 3)
    p = jax.nn.softmax(-jnp.square(z[:, None] - codes[None]).sum(-1), -1)
    each, mean = quantise.lfq_entropies(z, weight)
    np.testing.assert_allclose(each, -(p * jnp.log(p)).sum(-1), rtol=1e-4)
    whole = p[:5].mean(0)
    np.testing.assert_allclose(mean, -(whole * jnp.log(whole)).sum(), rtol=1e-5)
    # Many codes: the bound, which takes the bits for independent.
    monkeypatch.setattr(quantise, "EXACT", 4)
    each, bound = quantise.lfq_entropies(z, weight)
    assert float(bound) > float(mean)
    bits = jnp.stack([(p[:5].mean(0) * (codes[:, i] > 0)).sum() for i in range(3)])
    np.testing.assert_allclose(
        bound, -(bits * jnp.log(bits) + (1 - bits) * jnp.log(1 - bits)).sum(), rtol=1e-4
    )


def test_perplexity_counts_codes_in_equal_use():
    assert float(quantise.perplexity(jnp.asarray([3.0, 3.0, 0.0, 3.0]))) == pytest.approx(3.0, rel=1e-5)
    assert float(quantise.perplexity(jnp.asarray([5.0, 0.0]))) == pytest.approx(1.0)


# --- quantisers and the model ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_decoded_is_what_was_quantised(name: str):
    model, variables, batch = made(name)
    codec = model.codec
    assert codec is not None
    codes = jax.jit(codec.encode)(variables, batch)
    element = codec.spec(SPEC)["codes"]
    assert codes["codes"].shape[1:] == element.shape
    assert element.levels is not None
    assert 0 <= int(codes["codes"].min()) <= int(codes["codes"].max()) < element.levels
    # The loss reads the same reconstruction as the codec: nats and distortion agree.
    phase = model.phases["reconstruction"]
    loss, aux = jax.jit(lambda: phase.objective(variables, batch, keys(), step=None))()
    nats = jax.jit(codec.nats)(variables, batch, codes, keys())
    np.testing.assert_allclose(nats.mean(), aux.metrics["distortion"].value, rtol=1e-5)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, aux.state, variables.state))
    image = jax.jit(codec.decode)(variables, codes)["image"]
    assert image.shape == batch["image"].shape
    assert np.isfinite(float(loss.value))


@pytest.mark.parametrize("name", OPTIONS)
def test_every_parameter_gets_a_gradient_and_the_state_moves(name: str):
    model, variables, batch = made(name)
    objective = model.phases["reconstruction"].objective

    def loss(params):
        mean, aux = objective(variables.replace(params=params), batch, keys(), step=jnp.int32(3))
        return mean.value, aux.state

    gradients, state = jax.jit(jax.grad(loss, has_aux=True))(variables.params)
    for path, g in jax.tree_util.tree_leaves_with_path(gradients):
        assert float(jnp.abs(g).max()) > 0, jax.tree_util.keystr(path)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state, variables.state)
    assert max(jax.tree.leaves(moved)) > 0


def test_residual_codebooks_reduce_the_error_in_turn():
    z = features(8, 4, 4, 6)
    errors = []
    for depth in (1, 2, 4):
        q = quantisers.Vector(16, 6, depth, 0.25, 0.99, 0.0, 10)
        state = jax.jit(q.fit)(q.state(jax.random.key(0)), z, jnp.ones(8))
        out = q.quantise({}, state, z, jnp.ones(8), None, None)
        np.testing.assert_allclose(q.codes({}, state, out.index), out.q, atol=1e-5)
        errors.append(float(jnp.square(out.q - z).mean()))
    assert errors[0] > 1.2 * errors[1] > 1.44 * errors[2]


def test_padding_rows_do_not_move_the_codebook():
    model, variables, batch = made("residual")
    objective = jax.jit(functools.partial(model.phases["reconstruction"].objective, step=jnp.int32(0)))
    padded = {
        "image": jnp.concatenate([batch["image"], batch["image"][:2] * 0]),
        "mask": jnp.ones(8).at[6:].set(0),
    }
    _, plain = objective(variables, batch, keys(6))
    _, more = objective(variables, padded, keys(8))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain.state, more.state)


def test_the_temperature_falls_from_one_to_a_sixteenth():
    q = quantisers.Gumbel(8, 4, 0.1, 100)
    steps = [float(q.temperature(n)) for n in (0, 50, 100, 1000)]
    assert steps == pytest.approx([1.0, 17 / 32, 1 / 16, 1 / 16])


def test_uniform_logits_have_no_divergence():
    q = quantisers.Gumbel(8, 4, 1.0, 100)
    params, state = q.params(jax.random.key(0)), q.state(jax.random.key(0))
    flat = q.quantise(params, state, jnp.zeros((2, 3, 3, 8)), jnp.ones(2), None, None)
    np.testing.assert_allclose(flat.penalty, 0.0, atol=1e-6)
    sure = q.quantise(
        params, state, 50.0 * jax.nn.one_hot(jnp.zeros((2, 3, 3), int), 8), jnp.ones(2), None, None
    )
    np.testing.assert_allclose(sure.penalty, np.log(8), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"quantiser": "signs", "codes": 12}, "power of two"),
        ({"quantiser": "scalar", "codes": 12}, r"model\.codes has no effect"),
        ({"quantiser": "gumbel", "depth": 2}, r"model\.depth has no effect"),
        ({"halvings": 4}, "halved"),
    ],
)
def test_options_that_do_not_apply_are_refused(options: dict, match: str):
    with pytest.raises(ConfigError, match=match):
        vqvae.build(vqvae.Config(**options), SPEC)
