"""Piano rolls as sequences of frames: their encoding, their nats, and how networks read and write them."""

from __future__ import annotations

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Element, Spec
from genjax.errors import ConfigError
from genjax.nn.sequence_embedding import embed, unembed
from genjax.views.frames import Frames, frame_nats, view
from genjax.views.sequences import Sequence

K, L = 5, 4
ROLL = Spec(
    {"roll": Element((L, K), "uint8", 2, "roll", "target"), "token_mask": Element((L - 1,), "float32")}
)
TEXT = Spec({"tokens": Element((L,), "int32", 7, "tokens", "target")})


def rolls(num: int, seed: int = 0) -> dict:
    r = np.random.default_rng(seed)
    mask = (np.arange(L - 1) < r.integers(1, L, num)[:, None]).astype(np.float32)
    roll = r.integers(0, 2, (num, L, K)).astype(np.uint8)
    return {"roll": roll, "token_mask": mask, "mask": np.ones(num, np.float32)}


def test_the_data_s_element_chooses_the_view():
    assert view(ROLL) == Frames("roll", (L, K))
    assert view(TEXT) == Sequence.of(TEXT)
    assert (view(ROLL).length, view(ROLL).outputs, view(TEXT).outputs) == (L - 1, K, 7)
    with pytest.raises(ConfigError, match="point"):
        view(Spec({"point": Element((2,), "float32")}))


def test_frames_are_read_one_before_they_are_predicted():
    rows = rolls(6)
    inputs, targets, mask = view(ROLL).encode(rows)
    np.testing.assert_array_equal(inputs, rows["roll"][:, :-1])
    np.testing.assert_array_equal(targets, rows["roll"][:, 1:])
    np.testing.assert_array_equal(mask, rows["token_mask"])


def test_behind_the_start_frame_the_first_one_is_predicted():
    rows = rolls(6)
    drop = jnp.arange(6) % 2.0
    inputs, targets, mask = view(ROLL).encode(rows, drop)
    assert (np.asarray(inputs[1::2, 0]) == 2).all()
    np.testing.assert_array_equal(inputs[1::2, 1:], rows["roll"][1::2, :-2])
    np.testing.assert_array_equal(targets[1::2], rows["roll"][1::2, :-1])
    np.testing.assert_array_equal(inputs[::2], rows["roll"][::2, :-1])
    np.testing.assert_array_equal(mask[1::2, 1:], rows["token_mask"][1::2, :-1])
    np.testing.assert_array_equal(mask[::2], rows["token_mask"][::2])


def test_probabilities_of_all_frames_sum_to_one():
    logits = jax.random.normal(jax.random.key(0), (K,)) * 3
    every = np.array(list(itertools.product((0, 1), repeat=K)))
    nats = frame_nats(jnp.broadcast_to(logits[None], every.shape), jnp.asarray(every))
    np.testing.assert_allclose(np.exp(-np.asarray(nats, np.float64)).sum(), 1, rtol=1e-5)
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    expected = -np.log(np.where(every == 1, p, 1 - p)).sum(1)
    np.testing.assert_allclose(nats, expected, rtol=1e-5)
    # Far from zero too, where a probability would be rounded to 1.
    far = frame_nats(jnp.array([[60.0, -60.0]]), jnp.array([[0, 1]]))
    np.testing.assert_allclose(far, [120.0], rtol=1e-6)


def test_accuracy_counts_keys_of_frames_that_count():
    logits = jnp.array([[[1.0, 1, -1, -1], [1, 1, 1, 1]]])
    targets = jnp.array([[[1, 0, 1, 0], [0, 0, 0, 0]]])
    got = Frames("roll", (3, 4)).metrics(logits, targets, jnp.array([[1.0, 0.0]]))["accuracy"]
    assert (float(got.total), float(got.count)) == (1, 3)


class Network(nn.Module):
    """Embed and unembed the inputs."""

    spec: Spec
    tied: bool

    @nn.compact
    def __call__(self, inputs):
        v = view(self.spec)
        x, table = embed(self, v, inputs, 8, nn.initializers.normal(1.0))
        return x, unembed(self, v, x, table if self.tied else None)


@pytest.mark.parametrize("tied", [False, True])
def test_a_frame_is_the_sum_of_its_keys_and_the_start_has_a_row_of_its_own(tied):
    v, network = view(ROLL), Network(ROLL, tied)
    inputs = jnp.concatenate([v.start({}, 3), v.encode(rolls(3))[0]], axis=1)
    params = network.init(jax.random.key(0), inputs)["params"]
    x, logits = network.apply({"params": params}, inputs)
    table = np.asarray(params["key_embedding"])
    assert table.shape == (K + 1, 8)
    for b, t in itertools.product(range(3), range(L)):
        keys = [K] if t == 0 else np.flatnonzero(rolls(3)["roll"][b, t - 1])
        np.testing.assert_allclose(x[b, t], table[keys].sum(0), rtol=1e-5, atol=1e-6)
    assert logits.shape == (3, L, K)
    head = table[:K].T if tied else np.asarray(params["head"]["kernel"])
    np.testing.assert_allclose(logits, np.asarray(x) @ head, rtol=1e-4, atol=1e-5)
    assert {"output_bias"} <= set(params) if tied else "bias" in params["head"]


def test_tokens_are_read_by_their_rows():
    v, network = view(TEXT), Network(TEXT, True)
    inputs = jnp.array([[v.null, 0, 6]])
    params = network.init(jax.random.key(0), inputs)["params"]
    x, logits = network.apply({"params": params}, inputs)
    assert set(params) == {"token_embedding"}
    table = np.asarray(params["token_embedding"])
    np.testing.assert_array_equal(x[0], table[[7, 0, 6]])
    np.testing.assert_allclose(logits[0], table[[7, 0, 6]] @ table[:7].T, rtol=1e-5, atol=1e-5)
