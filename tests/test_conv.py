"""Whatever form a convolution takes, it is lax's: values, gradients, and gradients of gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genjax.core import AXIS
from genjax.nn import conv_forms, measured
from genjax.nn.conv import (
    LAYOUT,
    BatchNorm,
    Conv,
    conv,
    conv_transpose,
    downsample,
    halvings,
    shift,
    upsample,
)


def arrays(side: int, kernel: int, channels: int = 3, features: int = 5):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return draw(2, side, side + 1, channels), draw(kernel, kernel, channels, features)


def assert_same(ours, reference, x, kernel):
    """Values, both gradients, and the gradient of the input gradient's norm (as R1 takes it)."""
    assert ours(x, kernel).shape == reference(x, kernel).shape

    def everything(f):
        def run(x, kernel):
            scalar = lambda x, kernel: jnp.sin(f(x, kernel)).sum()
            penalty = lambda kernel: jnp.square(jax.grad(scalar)(x, kernel)).sum()
            return f(x, kernel), jax.grad(scalar, (0, 1))(x, kernel), jax.grad(penalty)(kernel)

        return jax.jit(run)(x, kernel)

    for a, b in zip(*map(jax.tree.leaves, (everything(ours), everything(reference))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 1))])
def test_convolutions_are_laxs(size, stride, padding):
    x, kernel = arrays(6, size)
    reference = lambda x, k: lax.conv_general_dilated(x, k, (stride,) * 2, padding, dimension_numbers=LAYOUT)
    assert_same(lambda x, k: conv(x, k, (stride,) * 2, padding), reference, x, kernel)


FORMS = [
    ((3, 3), (1, 1), ((1, 1), (1, 1))),
    ((3, 3), (2, 2), ((0, 1), (2, 0))),
    ((4, 4), (2, 2), ((1, 1), (1, 1))),
    ((3, 5), (2, 3), ((1, 1), (2, 2))),
    ((5, 2), (3, 1), ((0, 0), (0, 0))),
    ((2, 2), (3, 3), ((3, 4), (0, 0))),
]
"""Kernel, strides and padding: shorter and longer kernels than strides, padding on one side alone."""


@pytest.mark.parametrize("form", [conv_forms.by_products, conv_forms.mixed], ids=["products", "mixed"])
@pytest.mark.parametrize(("size", "strides", "pads"), FORMS, ids=str)
def test_every_form_is_laxs(form, size, strides, pads):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 7, 8, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*size, 3, 5)), jnp.float32)
    assert_same(
        lambda x, k: form(x, k, strides, pads),
        lambda x, k: conv_forms.by_lax(x, k, strides, pads),
        x,
        kernel,
    )


def test_the_mixed_form_has_forward_derivatives():
    x, kernel = arrays(5, 3)
    pads = ((1, 1), (1, 1))
    tangents = (jnp.cos(x), jnp.cos(kernel))
    derive = lambda form: jax.jvp(lambda x, k: form(x, k, (1, 1), pads), (x, kernel), tangents)
    ours = derive(conv_forms.mixed)
    theirs = derive(conv_forms.by_lax)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_the_kernels_gradient_is_one_product_and_no_convolution():
    x, kernel = arrays(6, 3)
    loss = lambda k: jnp.sin(conv_forms.mixed(x, k, (1, 1), ((1, 1), (1, 1)))).sum()
    backward = str(jax.make_jaxpr(jax.grad(loss))(kernel))
    assert backward.count("conv_general_dilated") == 1
    assert backward.count("dot_general") == 1


def test_the_faster_form_is_taken_and_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_FORMS_FILE", str(tmp_path / "forms.json"))
    a = jnp.eye(400)

    def slow(x):
        for _ in range(60):
            x = jnp.sin(x) @ a
        return x

    choose = lambda **forms: measured.fastest("test", forms, ((400, 400),), "float32")
    assert choose(slow=slow, fast=lambda x: x + 1) == "fast"
    # Remembered, also where the measurement would now give another result.
    assert choose(slow=lambda x: x, fast=slow) == "fast"
    # A measured name that no longer exists, and a damaged file, are as good as none.
    assert choose(other=slow) == "other"
    (tmp_path / "forms.json").write_text("{")
    assert choose(fast=lambda x: x + 1, slow=slow) == "fast"
    monkeypatch.setenv("GENJAX_FORMS_FILE", "off")
    assert choose(slow=slow, fast=lambda x: x + 1) == "slow"


def test_arguments_that_may_not_fit_into_memory_are_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_FORMS_FILE", str(tmp_path / "forms.json"))
    assert measured.fastest("test", {"a": jnp.sin, "b": jnp.cos}, ((2**40, 2), (3,)), "float32") == "a"
    assert not (tmp_path / "forms.json").exists()


def test_the_form_may_be_chosen_while_a_program_is_traced(tmp_path, monkeypatch):
    """The choice compiles and runs programs of its own, in the middle of the trace of a gradient."""
    monkeypatch.setenv("GENJAX_FORMS_FILE", str(tmp_path / "forms.json"))
    monkeypatch.setattr(conv_forms, "SMALL", 0)
    conv_forms._form.cache_clear()
    x, kernel = arrays(6, 3)
    reference = lambda x, k: lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=LAYOUT)
    assert_same(lambda x, k: conv(x, k, (1, 1), "SAME"), reference, x, kernel)
    assert (tmp_path / "forms.json").exists()
    conv_forms._form.cache_clear()


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (4, 2), (5, 2), (3, 1), (3, 3), (4, 3), (6, 4)])
def test_transposed_convolutions_are_laxs(size, stride):
    x, kernel = arrays(4, size)
    reference = lambda x, k: lax.conv_transpose(x, k, (stride,) * 2, "SAME", dimension_numbers=LAYOUT)
    assert_same(lambda x, k: conv_transpose(x, k, (stride,) * 2), reference, x, kernel)


def test_directions_may_differ():
    x, _ = arrays(4, 1)
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3, 3, 5)), jnp.float32)
    reference = lambda x, k: lax.conv_transpose(x, k, (2, 1), "SAME", dimension_numbers=LAYOUT)
    assert_same(lambda x, k: conv_transpose(x, k, (2, 1)), reference, x, kernel)


def test_a_kernel_shorter_than_its_stride_is_refused():
    x, kernel = arrays(4, 2)
    with pytest.raises(ValueError, match="shorter"):
        conv_transpose(x, kernel, (3, 3))


@pytest.mark.parametrize("transpose", [False, True])
def test_the_module_has_linens_parameters_and_output(transpose):
    import flax.linen as nn

    x, _ = arrays(6, 3)
    theirs = (nn.ConvTranspose if transpose else nn.Conv)(5, (4, 4), (2, 2))
    variables = theirs.init(jax.random.key(0), x)
    ours = Conv(5, 4, 2, transpose=transpose)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, variables)
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-5)
    assert "bias" not in Conv(5, use_bias=False).init(jax.random.key(0), x)["params"]
    assert Conv(5, dtype=jnp.bfloat16).apply(Conv(5).init(jax.random.key(0), x), x).dtype == jnp.bfloat16


def test_up_then_down_is_the_identity():
    x, _ = arrays(6, 1)
    np.testing.assert_allclose(downsample(upsample(x)), x, rtol=1e-6)
    np.testing.assert_array_equal(
        upsample(x)[:, 2:4, 4:6], jnp.repeat(jnp.repeat(x[:, 1:2, 2:3], 2, 1), 2, 2)
    )


def test_halvings_stop_at_odd_or_small_sides():
    assert [halvings(n, n) for n in (8, 28, 32, 64, 7, 4)] == [1, 2, 3, 4, 0, 0]
    assert halvings(64, 8) == 1


def test_shifts_are_whole_pixels_of_each_rows_own_key():
    x, _ = arrays(5, 1)
    x, keys = jnp.broadcast_to(x[:1], (200, *x.shape[1:])), jax.random.split(jax.random.key(0), 200)
    out = np.asarray(jax.jit(lambda k, x: shift(k, x, 1, fill=9.0))(keys, x))
    padded = np.pad(np.asarray(x[0]), ((1, 1), (1, 1), (0, 0)), constant_values=9.0)
    places = [padded[i : i + 5, j : j + 6] for i in range(3) for j in range(3)]
    which = [[bool((image == p).all()) for p in places] for image in out]
    assert all(sum(row) == 1 for row in which)
    assert (np.sum(which, 0) > 5).all()  # each of the nine is drawn
    other = shift(keys[::-1], x, 1, fill=9.0)
    np.testing.assert_array_equal(other[::-1], out)


def test_batch_norm_is_linens_and_keeps_running_averages():
    import flax.linen as nn

    x = 3 + 2 * arrays(6, 1)[0]
    variables = BatchNorm().init(jax.random.key(0), x, True)
    theirs = nn.BatchNorm(momentum=0.9)
    y, new = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    z, expected = theirs.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
    np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(new["batch_stats"][name], expected["batch_stats"][name], rtol=1e-4)
    variables = {**variables, **new}
    np.testing.assert_allclose(
        BatchNorm().apply(variables, x, False),
        theirs.apply(variables, x, use_running_average=True),
        rtol=1e-4,
    )


def test_batch_norm_over_mapped_devices_is_that_of_the_whole_batch():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3, 4)), jnp.float32)
    variables = BatchNorm().init(jax.random.key(0), x, True)
    run = lambda x: BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    whole, stats = run(x)
    parts, shards = jax.pmap(run, axis_name=AXIS)(x.reshape(4, 2, 3, 4))
    np.testing.assert_allclose(parts.reshape(8, 3, 4), whole, rtol=1e-5, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(shards["batch_stats"][name][1], stats["batch_stats"][name], rtol=1e-5)
