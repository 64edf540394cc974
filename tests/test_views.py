"""Test that views choose their element from the spec: by role, kind, shape and levels, never by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Element, Spec
from genjax.errors import ConfigError
from genjax.models import gpt, ngram
from genjax.views.frames import Frames, view
from genjax.views.pairs import Pairs
from genjax.views.sequences import Sequence

CLASS = Element((), "int32", 3, "label", "condition")
CODES = Element((3, 4), "uint16", 6, None, "target")


@pytest.mark.parametrize(
    ("element", "text"),
    [
        (Element((9,), "int32", 7, "tokens", "target"), True),
        (Element((9,), "int32", 7, "voices", "target"), True),
        (Element((9,), "int32", 7, None, "target"), True),
        (Element((9,), "int32", 7, "genjax.kinds.tokens", "target"), True),
        (Element((9, 1), "uint8", 7, "image", "target"), False),
        (CODES, False),
        (Element((3, 4, 2), "int32", 6, None, "target"), False),
    ],
)
def test_the_kind_decides_what_is_running_text(element: Element, text: bool):
    spec = Spec({"noise": Element((2,), "float32"), "anything": element})
    sequence = view(spec)
    assert isinstance(sequence, Sequence)
    assert (sequence.element, sequence.text) == ("anything", text)
    assert sequence.length == np.prod(element.shape) - text


def test_frames_are_a_running_element_of_two_dimensions():
    spec = Spec({"keys": Element((5, 4), "uint8", 2, "roll", "target")})
    assert view(spec) == Frames("keys", (5, 4))
    with pytest.raises(ConfigError, match="sequence of frames"):
        Sequence.of(spec)
    with pytest.raises(ConfigError, match="3 levels"):
        view(Spec({"keys": Element((5, 4), "uint8", 3, "roll", "target")}))


def test_spatial_codes_are_read_in_raster_order_and_keep_their_dtype():
    sequence = Sequence.of(Spec({"codes": CODES, "kind of digit": CLASS}))
    assert (sequence.classes, sequence.label, sequence.vocabulary) == (3, "kind of digit", 6 + 3 + 1)
    codes = np.arange(24).reshape(2, 3, 4).astype(np.uint16) % 6
    batch = {"codes": codes, "kind of digit": np.array([2, 0]), "mask": np.ones(2, np.float32)}
    inputs, targets, mask = sequence.encode(batch)
    np.testing.assert_array_equal(targets, codes.reshape(2, 12))
    np.testing.assert_array_equal(inputs[:, 0], [8, 6])
    np.testing.assert_array_equal(inputs[:, 1:], codes.reshape(2, 12)[:, :-1])
    assert float(mask.sum()) == 24
    out = sequence.decode(targets)["codes"]
    assert out.dtype == np.uint16
    np.testing.assert_array_equal(out, codes)


@pytest.mark.parametrize("name", ["gpt", "nearest"])
def test_models_of_sequences_draw_codes_and_complete_them(name: str):
    spec = Spec({"codes": CODES, "kind of digit": CLASS}, 4)
    if name == "gpt":
        model = gpt.build(gpt.Config(layers=1, heads=2, width=16), spec, {})
    else:
        model = ngram.build(ngram.Config(order=4, context="nearest", bins=2), spec, {})
    variables = jax.jit(lambda key: model.init(key, spec.example(4), {}))(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 4)
    assert model.sample is not None
    assert model.likelihood is not None
    begun = jnp.tile(jnp.array([[0, 5, 2, 1, 4]]), (4, 1))
    out = model.sample(variables, keys, {"kind of digit": jnp.arange(4) % 3, "codes": begun})
    assert set(out) == {"codes", "kind of digit"}
    assert (out["codes"].shape, out["codes"].dtype) == ((4, 3, 4), np.uint16)
    np.testing.assert_array_equal(out["codes"].reshape(4, 12)[:, :5], begun)
    nats, _ = model.likelihood(variables, {**out, "mask": jnp.ones(4)}, keys)
    assert np.isfinite(nats.total).all()
    np.testing.assert_array_equal(nats.count, 12)


def test_a_label_counts_only_if_a_sampler_is_given_it():
    image = Element((2, 2, 1), "uint8", 4, "image", "target")
    auxiliary = Spec({"image": image, "label": CLASS.replace(role="auxiliary")})
    assert Sequence.of(auxiliary).classes == 0
    start = Sequence.of(auxiliary).start({"label": jnp.array([1])}, 1)
    assert start.tolist() == [[4]]


def test_a_spec_without_a_discrete_target_is_refused():
    with pytest.raises(ConfigError, match=r"is a target[\s\S]*role=\"target\""):
        Sequence.of(Spec({"tokens": Element((9,), "int32", 7)}))
    with pytest.raises(ConfigError, match="discrete"):
        view(Spec({"point": Element((2,), "float32", None, "point", "target")}))


def test_pairs_are_the_condition_and_the_target_of_paired_data():
    side = Element((6,), "int32", 9, "tokens")
    size = Element((), "int32")
    elements = {
        "question": side.replace(role="condition", levels=11),
        "question_length": size.replace(role="condition"),
        "answer": side.replace(role="target"),
        "answer_length": size.replace(role="target"),
    }
    pairs = Pairs.of(Spec(elements, special={"pad": 0, "eos": 1}, paired=True))
    assert (pairs.source, pairs.target, pairs.levels, pairs.width) == ("question", "answer", 11, 6)
    tokens = jnp.arange(12).reshape(2, 6) % 9
    batch = {
        "question": tokens,
        "question_length": jnp.array([2, 6]),
        "answer": tokens[::-1],
        "answer_length": jnp.array([3, 1]),
        "mask": jnp.array([1.0, 0.0]),
    }
    pair = pairs.read(batch, None)
    np.testing.assert_array_equal(pair.source_mask.sum(1), [2, 6])
    np.testing.assert_array_equal(pair.target_mask.sum(1), [3, 0])
    np.testing.assert_array_equal(pair.target, tokens[::-1])
    two = {**elements, "hint": side.replace(role="condition")}
    with pytest.raises(ConfigError, match="2 conditions and 1 targets"):
        Pairs.of(Spec(two, paired=True))
    # Without `paired` the same elements are unrelated: the target is running text.
    assert not Pairs.of(Spec(elements)).paired
