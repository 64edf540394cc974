"""Define recurrent layers (Elman, LSTM, GRU) and stacks of them.

A layer multiplies its whole input sequence by the input kernel in one product before the scan; the scan
computes only the recurrent product. The scan has a custom derivative. JAX's own would add every step's outer
product to the gradient of the recurrent kernel, which reads and writes the whole gradient at every step; here
the gradients of the products are stacked and one product after the scan sums them. Arrays within a layer are
time-major, so that a step reads and writes contiguous memory.
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
"""The state of one layer, its output h first: (h,), or (h, c) for an LSTM."""
Small: TypeAlias = dict[str, jax.Array]
"""Learned vectors of a cell, beside the two kernels and the bias."""


class Cell(NamedTuple):
    """Describe one kind of recurrence with H units and G = gates * H.

    Attributes:
      gates: number of H-wide parts of the products.
      states: number of arrays in the state.
      summed: True if a step needs only the sum of the two products.
      step: (small, input product B x G, recurrent product B x G, state) -> state. If `summed`, the input
        product is the sum of both and the recurrent product is None.
    """

    gates: int
    states: int
    summed: bool
    step: Callable[[Small, jax.Array, jax.Array | None, State], State]


def _elman(p: Small, x: jax.Array, r: jax.Array | None, state: State) -> State:
    """Compute h = tanh(W x + U h + b) (Elman 1990).

    Normalised: h = tanh(LN(W x + U h) + b) (Ba et al. 2016, arXiv:1607.06450, eq. 4).
    """
    del state
    if r is None:
        return (jnp.tanh(x),)
    return (jnp.tanh(_normalise(x + r, p["scale"]) + p["bias"][None]),)


def _lstm(p: Small, x: jax.Array, r: jax.Array | None, state: State) -> State:
    """Compute c = f * c + i * g and h = o * tanh(c) with gates i, f, o and candidate g.

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000. Normalised: each of the two
    products, and the cell before its tanh (Ba et al. 2016, arXiv:1607.06450, eq. 20 to 22).
    """
    # The input product x is normalised by the layer, for all steps at once.
    z = x if r is None else x + _normalise(r, p["scale"])
    i, f, g, o = jnp.split(z, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    shown = c if r is None else _normalise(c, p["cell_scale"]) + p["cell_bias"][None]
    return jax.nn.sigmoid(o) * jnp.tanh(shown), c


def _gru(p: Small, x: jax.Array, r: jax.Array | None, state: State) -> State:
    """Compute n = tanh(W x + b + reset * (U h + b')) and h = (1 - update) * n + update * h.

    Cho et al. 2014, arXiv:1406.1078, with the reset gate applied after the recurrent product, as in cuDNN
    and torch. Normalised: the products of both gates together, the candidate's separately (Ba et al. 2016,
    arXiv:1607.06450, eq. 23 to 28).
    """
    assert r is not None
    H = state[0].shape[-1]
    gates = r[:, : 2 * H]
    candidate = r[:, 2 * H :]
    if "scale" in p:
        gates = _normalise(gates, p["scale"][: 2 * H])
        candidate = _normalise(candidate, p["scale"][2 * H :])
    reset, update = jnp.split(jax.nn.sigmoid(x[:, : 2 * H] + gates), 2, axis=-1)
    n = jnp.tanh(x[:, 2 * H :] + reset * (candidate + p["candidate_bias"][None]))
    # (1 - update) n + update h with one multiplication.
    return ((n - state[0]) * (1 - update) + state[0],)


CELLS: dict[str, Cell] = {
    "elman": Cell(1, 1, True, _elman),
    "lstm": Cell(4, 2, True, _lstm),
    "gru": Cell(3, 1, False, _gru),
}


def _normalise(x: Float[Array, "*B G"], scale: Float[Array, " G"], epsilon: float = 1e-5) -> jax.Array:
    """Compute LayerNorm without a shift; the cell adds its bias afterwards."""
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
    """Run T steps of a cell and return the states after each of them, every array T x B x H.

    Args:
      kernel: U, the kernel of the recurrent product.
      small: the cell's other learned vectors.
      inputs: the input product W x, with the bias added.
      state: the state before the first step.
      keep: 0 where the state is set to zero before the step; no gradient flows to it.
      mask: factor on h in the recurrent product, the same at every step (recurrent dropout); no gradient
        flows to it.
    """
    return _forwards(cell, kernel, small, inputs, state, keep, mask)[0]


def _forwards(cell, kernel, small, inputs, state, keep, mask):
    """Return the states after each step, and each step's product for the backward pass.

    The product is the sum of both products if `cell.summed`, else the recurrent product.
    """

    def body(state: State, at: tuple[jax.Array, Any]):
        x, k = at
        if k is not None:
            state = tuple(s * k[:, None] for s in state)
        h = state[0] if mask is None else state[0] * mask
        r = jnp.dot(h.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32)
        x = x.astype(jnp.float32)
        if cell.summed:
            z = x + r
            state = cell.step(small, z, None, state)
            return state, (state, z)
        state = cell.step(small, x, r, state)
        return state, (state, r)

    if inputs.shape[0] == 1:
        # One step, as in decoding: a scan would wrap it in a loop.
        only = (inputs[0], None if keep is None else keep[0])
        return jax.tree.map(lambda y: y[None], body(state, only)[1])
    return jax.lax.scan(body, state, (inputs, keep))[1]


def _unroll_fwd(cell, kernel, small, inputs, state, keep, mask):
    states, read = _forwards(cell, kernel, small, inputs, state, keep, mask)
    # If the cell reads only the sum of the products, the backward pass does not need the inputs.
    rest = jnp.zeros((0,), inputs.dtype) if cell.summed else inputs
    return states, (kernel, small, rest, state, keep, mask, states, read)


def _unroll_bwd(cell, saved, gradients):
    kernel, small, inputs, state, keep, mask, states, read = saved
    # The states that each step read: the initial one, then those after the steps before it.
    before = tuple(jnp.concatenate([s[None], after[:-1]]) for s, after in zip(state, states, strict=True))
    if keep is not None:
        before = tuple(s * keep[:, :, None] for s in before)
    # Transposed once here rather than at every step.
    transposed = kernel.T

    def body(carried: tuple[State, Small], at: Any):
        d_state, d_small = carried
        d_out, x, r, state, k = at
        # The gradient of a step's state is that of its use as an output plus that of the next step. jax.vjp
        # recomputes the cell's elementwise functions from the saved products.
        if cell.summed:
            _, back = jax.vjp(lambda p, z, s: cell.step(p, z, None, s), small, r, state)
            dp, dr, ds = back(tuple(a + b for a, b in zip(d_state, d_out, strict=True)))
            dx = None
        else:
            _, back = jax.vjp(cell.step, small, x.astype(jnp.float32), r, state)
            dp, dx, dr, ds = back(tuple(a + b for a, b in zip(d_state, d_out, strict=True)))
        dh = jnp.dot(dr.astype(kernel.dtype), transposed, preferred_element_type=jnp.float32)
        # h is read by the cell and, masked, by the recurrent product.
        ds = (ds[0] + (dh if mask is None else dh * mask), *ds[1:])
        if k is not None:
            ds = tuple(s * k[:, None] for s in ds)
        return (ds, jax.tree.map(jnp.add, d_small, dp)), (dx, dr)

    start = jax.tree.map(jnp.zeros_like, (state, small))
    along = (gradients, None if cell.summed else inputs, read, before, keep)
    (d_state, d_small), (dx, dr) = jax.lax.scan(body, start, along, reverse=True)
    # dU = sum over steps and rows of h^T dr, as one product accumulated in float32.
    h = before[0] if mask is None else before[0] * mask[None]
    d_kernel = jax.lax.dot_general(
        h.reshape(-1, h.shape[-1]).astype(kernel.dtype),
        dr.reshape(-1, dr.shape[-1]).astype(kernel.dtype),
        (((0,), (0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
    # Of a sum of products both have the same gradient.
    dx = dr if dx is None else dx
    return d_kernel.astype(kernel.dtype), d_small, dx.astype(inputs.dtype), d_state, None, None


unroll.defvjp(_unroll_fwd, _unroll_bwd)


class Layer(nn.Module):
    """Apply one recurrent layer, time-major.

    Gates are in torch's order: i, f, g, o for an LSTM; reset, update, candidate for a GRU.

    Attributes:
      width: H, the number of units.
      layer_norm: normalise the products (Ba et al. 2016, arXiv:1607.06450, supplementary material).
      recurrent_dropout: dropout rate of h in the recurrent product; one mask for all steps of a row.
      dtype: dtype of the products; states, gates and parameters are float32.
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
        """Return the states after each step; arguments as in `unroll`, `keys` for recurrent dropout."""
        cell = CELLS[self.kind]
        H = self.width
        G = self.width * cell.gates
        kernel = Weights((x.shape[-1], G), nn.initializers.lecun_normal(), name="input")()
        recurrent = Weights((H, G), _orthogonal, name="recurrent")()
        bias = self.param("bias", _forget if self.kind == "lstm" else nn.initializers.zeros, (G,))
        z = linear(x.astype(self.dtype), kernel.astype(self.dtype))
        ones = nn.initializers.ones
        small = {}
        if self.kind == "gru":
            small["candidate_bias"] = self.param("candidate_bias", nn.initializers.zeros, (H,))
        if self.layer_norm:
            # The recurrent product is normalised by itself, so that a step needs both products.
            cell = cell._replace(summed=False)
            small["scale"] = self.param("recurrent_scale", ones, (G,))
            if self.kind == "elman":
                # One norm, of the sum of both products; the bias is added after it, within the step.
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
    """Normalise the input product; a GRU's gates together and its candidate separately."""
    if kind != "gru":
        return _normalise(z, scale)
    gates = z.shape[-1] // 3 * 2
    both = _normalise(z[..., :gates], scale[:gates])
    candidate = _normalise(z[..., gates:], scale[gates:])
    return jnp.concatenate([both, candidate], axis=-1)


class Weights(nn.Module):
    """Hold a kernel under a submodule name of its own."""

    shape: tuple[int, int]
    init: nn.initializers.Initializer

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("kernel", self.init, self.shape)


def _orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Draw one orthogonal H x H matrix per gate, which preserves the norm of h (Saxe et al. 2014)."""
    keys = jax.random.split(key, shape[1] // shape[0])
    square = nn.initializers.orthogonal()
    return jnp.concatenate([square(k, (shape[0], shape[0]), dtype) for k in keys], axis=1)


def _forget(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Return zeros with ones for the forget gate: the cell is kept at first (Jozefowicz et al. 2015)."""
    del key
    part = shape[0] // 4
    return jnp.zeros(shape, dtype).at[part : 2 * part].set(1)


class Recurrent(nn.Module):
    """Apply recurrent layers one after another.

    Attributes:
      dropout: dropout rate of each layer's input and of the last layer's output.
      recurrent_dropout: see Layer; its mask is always shared by all steps of a row.
      variational: share the masks of `dropout` too among all steps of a row (Gal & Ghahramani 2016,
        arXiv:1512.05287).
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
        """Return the outputs, and each layer's states after each step (time-major, T x B x H).

        Args:
          states: each layer's state before the first step.
          keep: 0 where all states are set to zero before the step.
          keys: PRNG keys of dropout; None for no dropout.
        """
        x = x.swapaxes(0, 1)
        after = []
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
            # One mask of B x I, applied at every step.
            return x * dropout(jnp.ones(x.shape[1:], x.dtype), self.dropout, keys)[None]
        return dropout(x.swapaxes(0, 1), self.dropout, keys).swapaxes(0, 1)

    @staticmethod
    def zeros(kind: Kind, layers: int, width: int, num: int) -> tuple[State, ...]:
        """Return the zero state of `num` rows for each layer."""
        part = lambda: tuple(jnp.zeros((num, width), jnp.float32) for _ in range(CELLS[kind].states))
        return tuple(part() for _ in range(layers))
