"""Write the convolutions that XLA's CPU compiler may leave its fast path for as matrix products."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genjax.nn import measured

LAYOUT = ("NHWC", "HWIO", "NHWC")
"""lax's dimension numbers of input, kernel and output."""
Pads = tuple[tuple[int, int], tuple[int, int]]
SMALL = 1e8
"""Multiplications below which the form does not matter, and is not measured."""


def by_lax(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C D"], strides: tuple[int, int], pads: Pads
) -> Float[Array, "B H2 W2 D"]:
    """Compute the convolution as lax.conv_general_dilated."""
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=LAYOUT)


def by_products(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C D"], strides: tuple[int, int], pads: Pads
) -> Float[Array, "B H2 W2 D"]:
    """Compute the convolution as one matrix product and a sum of ceil(h / stride) shifted images.

    The columns of the left factor are the w taps along the width; those of the right factor are the taps
    along the height. The product therefore holds every tap, and its derivative with respect to the kernel is
    one product too: (w C) x (h D) over all rows and columns. Patches of all h w taps would take h times the
    memory.

    With strides, rows are split by their remainder (phase) p: kernel row i = stride a + p meets row r + a of
    phase p, so that the a are shifts of whole rows and the phases are further columns of the left factor.
    """
    h, w, C, D = kernel.shape
    B, H, W, _ = x.shape
    sh, sw = strides
    (top, bottom), (left, right) = pads
    H2 = (H + top + bottom - h) // sh + 1
    W2 = (W + left + right - w) // sw + 1
    shifts = -(-h // sh)
    # Only the part of the padding that aligns the phases is written; whole rows of zeros are skipped.
    skip = top % sh
    rows = -(-(H + skip) // sh)
    zero = jnp.zeros((), x.dtype)
    width = sw * (W2 - 1) + w
    x = lax.pad(x, zero, ((0, 0, 0), (skip, rows * sh - H - skip, 0), (left, width - W - left, 0), (0, 0, 0)))
    taps = [x[:, p::sh, j : j + sw * (W2 - 1) + 1 : sw] for p in range(sh) for j in range(w)]
    # (shift a, phase p, tap j, C, D) to (p j C) x (a D).
    right_factor = jnp.pad(kernel, ((0, shifts * sh - h), (0, 0), (0, 0), (0, 0)))
    right_factor = right_factor.reshape(shifts, sh, w, C, D).transpose(1, 2, 3, 0, 4)
    right_factor = right_factor.reshape(sh * w * C, shifts * D)
    product = jnp.concatenate(taps, axis=-1).reshape(-1, sh * w * C) @ right_factor
    parts = jnp.split(product.reshape(B, rows, W2, shifts * D), shifts, axis=-1)
    # Row r of part a belongs to row r - a + top // sh of the output. lax.pad with negative numbers crops.
    first = top // sh
    placed = [
        lax.pad(part, zero, ((0, 0, 0), (first - a, H2 - rows - first + a, 0), (0, 0, 0), (0, 0, 0)))
        for a, part in enumerate(parts)
    ]
    return functools.reduce(jnp.add, placed)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def mixed(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C D"], strides: tuple[int, int], pads: Pads
) -> Float[Array, "B H2 W2 D"]:
    """Compute by_lax, with a derivative whose gradient of the kernel is the matrix product of by_products.

    It is a rule for the forward mode, which JAX transposes: all modes and orders of derivatives work.
    """
    return by_lax(x, kernel, strides, pads)


def _mixed_jvp(strides, pads, primals, tangents):
    x, kernel = primals
    dx, dk = tangents
    zero = lambda d: isinstance(d, jax.custom_derivatives.SymbolicZero)
    out = by_lax(x, kernel, strides, pads)
    # A convolution is linear in each of its arguments.
    parts = [] if zero(dx) else [by_lax(dx, kernel, strides, pads)]
    parts += [] if zero(dk) else [by_products(x, dk, strides, pads)]
    return out, functools.reduce(jnp.add, parts) if parts else jnp.zeros_like(out)


mixed.defjvp(_mixed_jvp, symbolic_zeros=True)


def conv(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C D"], strides: tuple[int, int], pads: Pads
) -> Float[Array, "B H2 W2 D"]:
    """Compute the convolution with the gradient of the kernel in the form that is fastest at this shape."""
    form = _form((x.shape, kernel.shape), strides, pads, str(x.dtype))
    return (mixed if form == "products" else by_lax)(x, kernel, strides, pads)


@functools.cache
def _form(shapes: tuple[tuple[int, ...], ...], strides: tuple[int, int], pads: Pads, dtype: str) -> str:
    """Return "lax" or "products"."""
    (B, H, W, _), (h, w, C, D) = shapes
    work = B * H * W * h * w * C * D / (strides[0] * strides[1])
    if work < SMALL:
        return "lax"

    def gradient(form):
        def of_kernel(x, kernel):
            y, back = jax.vjp(lambda k: form(x, k, strides, pads), kernel)
            return back(jnp.ones_like(y))[0]

        return of_kernel

    name = f"conv kernel gradient, strides {strides}, padding {pads}"
    forms = {"lax": gradient(by_lax), "products": gradient(by_products)}
    return measured.fastest(name, forms, shapes, dtype)
