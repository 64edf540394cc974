"""Recurrent layers: Elman's, LSTM and GRU, stacked; one product over all inputs, and one a step in a scan.

A layer's input product is over the whole sequence at once, before the scan; inside it is the recurrent
product alone. The scan's derivative is its own: the derived one adds each step's outer product to the
gradient of the recurrent kernel, reading and writing all of it at every step; here the gradients of the
products are stacked, and one product after the scan has them all. Within a layer arrays are time-major, so
that a step reads and writes contiguous memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Keys
from genjax.nn.dropout import dropout, fold
from genjax.nn.linear import linear

Kind = Literal["elman", "lstm", "gru"]
State: TypeAlias = tuple[Float[Array, "B H"], ...]
"""One layer's state, its output first: (h,), or (h, c) of an LSTM."""
Small: TypeAlias = dict[str, jax.Array]
"""A cell's vectors: what is learned beside the two kernels and the bias."""


class Cell(NamedTuple):
    """One kind of recurrence.

    Attributes:
      gates: how many H-wide parts the products have.
      states: how many arrays the state has.
      summed: a step needs only the sum of the two products.
      step: (small, input product B x G, recurrent product B x G or None where summed, state) -> state.
    """

    gates: int
    states: int
    summed: bool
    step: Callable[[Small, jax.Array, jax.Array | None, State], State]


def _elman(p: Small, x: jax.Array, r: jax.Array | None, state: State) -> State:
    """h = tanh(W x + U h + b) (Elman 1990); normalised: tanh(LN(W x + U h) + b) (Ba et al., eq. 4)."""
    del state
    if r is None:
        return (jnp.tanh(x),)
    return (jnp.tanh(_normalise(x + r, p["scale"]) + p["bias"][None]),)


def _lstm(p: Small, x: jax.Array, r: jax.Array | None, state: State) -> State:
    """i, f, g, o; c = f c + i g; h = o tanh(c) (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    Normalised: the two products each, and the cell before its tanh (Ba et al., eq. 20 to 22).
    """
    z = x if r is None else x + _normalise(r, p["scale"])
    i, f, g, o = jnp.split(z, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    shown = c if r is None else _normalise(c, p["cell_scale"]) + p["cell_bias"][None]
    return jax.nn.sigmoid(o) * jnp.tanh(shown), c


def _gru(p: Small, x: jax.Array, r: jax.Array | None, state: State) -> State:
    """Reset and update gates; n = tanh(W x + reset (U h + b')); h = (1 - update) n + update h.

    Cho et al. 2014, arXiv:1406.1078, with the reset gate after the product (as cuDNN and torch have it).
    Normalised: the gates' products together, the candidate's by itself (Ba et al., eq. 23 to 28).
    """
    assert r is not None
    H = state[0].shape[-1]
    gates, candidate = r[:, : 2 * H], r[:, 2 * H :]
    if "scale" in p:
        gates, candidate = _normalise(gates, p["scale"][: 2 * H]), _normalise(candidate, p["scale"][2 * H :])
    reset, update = jnp.split(jax.nn.sigmoid(x[:, : 2 * H] + gates), 2, axis=-1)
    n = jnp.tanh(x[:, 2 * H :] + reset * (candidate + p["candidate_bias"][None]))
    return ((n - state[0]) * (1 - update) + state[0],)


CELLS: dict[str, Cell] = {
    "elman": Cell(1, 1, True, _elman),
    "lstm": Cell(4, 2, True, _lstm),
    "gru": Cell(3, 1, False, _gru),
}


def _normalise(x: Float[Array, "*B G"], scale: Float[Array, " G"], epsilon: float = 1e-5) -> jax.Array:
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon)
    return x * scale.reshape((1,) * (x.ndim - 1) + scale.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def unroll(
    cell: Cell,
    kernel: Float[Array, "H G"],
    small: Small,
    inputs: Float[Array, "T B G"],
    state: State,
    keep: Float[Array, "T B"] | None = None,
    mask: Float[Array, "B H"] | None = None,
) -> tuple[Float[Array, "T B H"], ...]:
    """The states after each of T steps.

    Args:
      kernel: of the recurrent product.
      inputs: the input product, bias included.
      state: before the first step.
      keep: 0 where the state is zeroed before a step reads; a constant of the derivative, as is the mask.
      mask: what the recurrent product sees of h, the same at every step (dropout on the recurrence).
    """
    return _forwards(cell, kernel, small, inputs, state, keep, mask)[0]


def _forwards(cell, kernel, small, inputs, state, keep, mask):
    """(states after each step, what `cell.step` read: the products' sum, or the recurrent product)."""

    def body(state: State, at: tuple[jax.Array, Any]):
        x, k = at
        if k is not None:
            state = tuple(s * k[:, None] for s in state)
        h = state[0] if mask is None else state[0] * mask
        r = jnp.dot(h.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32)
        x = x.astype(jnp.float32)
        if cell.summed:
            state, read = cell.step(small, x + r, None, state), x + r
        else:
            state, read = cell.step(small, x, r, state), r
        return state, (state, read)

    if inputs.shape[0] == 1:  # decoding: no loop around a single step
        return jax.tree.map(lambda y: y[None], body(state, (inputs[0], None if keep is None else keep[0]))[1])
    return jax.lax.scan(body, state, (inputs, keep))[1]


def _unroll_fwd(cell, kernel, small, inputs, state, keep, mask):
    states, read = _forwards(cell, kernel, small, inputs, state, keep, mask)
    # The sum of the products stands for the inputs too.
    rest = jnp.zeros((0,), inputs.dtype) if cell.summed else inputs
    return states, (kernel, small, rest, state, keep, mask, states, read)


def _unroll_bwd(cell, saved, gradients):
    kernel, small, inputs, state, keep, mask, states, read = saved
    before = tuple(jnp.concatenate([s[None], after[:-1]]) for s, after in zip(state, states, strict=True))
    if keep is not None:
        before = tuple(s * keep[:, :, None] for s in before)
    transposed = kernel.T

    def body(carried: tuple[State, Small], at: Any):
        (d_state, d_small), (d_out, x, r, state, k) = carried, at
        if cell.summed:
            _, back = jax.vjp(lambda p, z, s: cell.step(p, z, None, s), small, r, state)
            dp, dr, ds = back(tuple(a + b for a, b in zip(d_state, d_out, strict=True)))
            dx = None
        else:
            _, back = jax.vjp(cell.step, small, x.astype(jnp.float32), r, state)
            dp, dx, dr, ds = back(tuple(a + b for a, b in zip(d_state, d_out, strict=True)))
        dh = jnp.dot(dr.astype(kernel.dtype), transposed, preferred_element_type=jnp.float32)
        ds = (ds[0] + (dh if mask is None else dh * mask), *ds[1:])
        if k is not None:
            ds = tuple(s * k[:, None] for s in ds)
        return (ds, jax.tree.map(jnp.add, d_small, dp)), (dx, dr)

    start = jax.tree.map(jnp.zeros_like, (state, small))
    along = (gradients, None if cell.summed else inputs, read, before, keep)
    (d_state, d_small), (dx, dr) = jax.lax.scan(body, start, along, reverse=True)
    h = before[0] if mask is None else before[0] * mask[None]
    d_kernel = jax.lax.dot_general(
        h.reshape(-1, h.shape[-1]).astype(kernel.dtype),
        dr.reshape(-1, dr.shape[-1]).astype(kernel.dtype),
        (((0,), (0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
    dx = dr if dx is None else dx
    return d_kernel.astype(kernel.dtype), d_small, dx.astype(inputs.dtype), d_state, None, None


unroll.defvjp(_unroll_fwd, _unroll_bwd)


class Layer(nn.Module):
    """One recurrent layer, time-major. Gates stand in torch's order: i f g o; reset, update, candidate.

    Attributes:
      layer_norm: normalise the products (Ba et al. 2016, arXiv:1607.06450, the supplement's equations).
      recurrent_dropout: rate of a mask on h in the recurrent product, one for all steps of a row.
      dtype: of the products; states and gates are float32, as are the parameters.
    """

    kind: Kind
    width: int
    layer_norm: bool = False
    recurrent_dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "T B I"],
        state: State,
        keep: Float[Array, "T B"] | None = None,
        keys: Keys | None = None,
    ) -> tuple[Float[Array, "T B H"], ...]:
        cell = CELLS[self.kind]
        H, G = self.width, self.width * cell.gates
        kernel = Weights((x.shape[-1], G), nn.initializers.lecun_normal(), name="input")()
        recurrent = Weights((H, G), _orthogonal, name="recurrent")()
        bias = self.param("bias", _forget if self.kind == "lstm" else nn.initializers.zeros, (G,))
        z = linear(x.astype(self.dtype), kernel.astype(self.dtype))
        ones, small = nn.initializers.ones, {}
        if self.kind == "gru":
            small["candidate_bias"] = self.param("candidate_bias", nn.initializers.zeros, (H,))
        if self.layer_norm:
            cell = cell._replace(summed=False)
            small["scale"] = self.param("recurrent_scale", ones, (G,))
            if self.kind == "elman":  # one norm, of the sum
                small["bias"] = bias
            else:
                z = _input_norm(z.astype(jnp.float32), self.param("input_scale", ones, (G,)), self.kind)
            if self.kind == "lstm":
                small["cell_scale"] = self.param("cell_scale", ones, (H,))
                small["cell_bias"] = self.param("cell_bias", nn.initializers.zeros, (H,))
        if "bias" not in small:
            z = z + bias.astype(z.dtype)[None, None]
        mask = None
        if keys is not None and self.recurrent_dropout:
            mask = dropout(jnp.ones(state[0].shape), self.recurrent_dropout, keys)
        return unroll(cell, recurrent.astype(self.dtype), small, z, state, keep, mask)


def _input_norm(z: Float[Array, "T B G"], scale: Float[Array, " G"], kind: Kind) -> Float[Array, "T B G"]:
    if kind != "gru":
        return _normalise(z, scale)
    gates = z.shape[-1] // 3 * 2
    parts = _normalise(z[..., :gates], scale[:gates]), _normalise(z[..., gates:], scale[gates:])
    return jnp.concatenate(parts, axis=-1)


class Weights(nn.Module):
    """A kernel with a name of its own."""

    shape: tuple[int, int]
    init: nn.initializers.Initializer

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("kernel", self.init, self.shape)


def _orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """An orthogonal matrix for each gate (Saxe et al. 2014): states neither grow nor shrink at first."""
    keys = jax.random.split(key, shape[1] // shape[0])
    square = nn.initializers.orthogonal()
    return jnp.concatenate([square(k, (shape[0], shape[0]), dtype) for k in keys], axis=1)


def _forget(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Zeros, but 1 for the forget gate (Jozefowicz et al. 2015): an LSTM remembers at first."""
    del key
    part = shape[0] // 4
    return jnp.zeros(shape, dtype).at[part : 2 * part].set(1)


class Recurrent(nn.Module):
    """Layers one after another.

    Attributes:
      dropout: on what enters every layer and on what leaves the last.
      variational: these masks too are one for all steps of a row (Gal & Ghahramani 2016,
        arXiv:1512.05287); for the recurrence they always are.
    """

    kind: Kind
    layers: int
    width: int
    layer_norm: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    variational: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T I"],
        states: tuple[State, ...],
        keep: Float[Array, "B T"] | None = None,
        keys: Keys | None = None,
    ) -> tuple[Float[Array, "B T H"], tuple[State, ...]]:
        """(outputs, every layer's states after each step: time-major, T x B x H).

        Args:
          states: before the first step.
          keep: 0 where all states are zeroed before a step reads its input.
          keys: of dropout; None for none.
        """
        x, after = x.swapaxes(0, 1), []
        keep = None if keep is None else keep.T
        for n in range(self.layers):
            layer = Layer(
                self.kind, self.width, self.layer_norm, self.recurrent_dropout, self.dtype, name=f"layer_{n}"
            )
            x = self._drop(x, fold(keys, 2 * n))
            after.append(layer(x, states[n], keep, fold(keys, 2 * n + 1)))
            x = after[-1][0]
        x = self._drop(x, fold(keys, 2 * self.layers))
        return x.swapaxes(0, 1), tuple(after)

    def _drop(self, x: Float[Array, "T B I"], keys: Keys | None) -> Float[Array, "T B I"]:
        if keys is None or not self.dropout:
            return x
        if self.variational:
            return x * dropout(jnp.ones(x.shape[1:], x.dtype), self.dropout, keys)[None]
        return dropout(x.swapaxes(0, 1), self.dropout, keys).swapaxes(0, 1)

    @staticmethod
    def zeros(kind: Kind, layers: int, width: int, num: int) -> tuple[State, ...]:
        """The state of `num` rows that have read nothing."""
        part = lambda: tuple(jnp.zeros((num, width), jnp.float32) for _ in range(CELLS[kind].states))
        return tuple(part() for _ in range(layers))
