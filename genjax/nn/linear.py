"""Apply linear layers as matrix products in the layouts that a CPU multiplies fastest."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def linear(x: Float[Array, "*B I"], kernel: Float[Array, "I O"]) -> Float[Array, "*B O"]:
    """Return x @ kernel: one matrix product in the forward pass and two in the backward pass.

    JAX's derivative of a product over several leading axes contracts all of them. XLA's CPU compiler then
    writes a transposed copy of the output's gradient, fused with its producer, which takes several times as
    long as the product. With the leading axes flattened no copy is made.
    """
    return _matrix(x) @ kernel if x.ndim == 2 else (_matrix(x) @ kernel).reshape(*x.shape[:-1], -1)


def _linear_fwd(x, kernel):
    return linear(x, kernel), (x, kernel)


def _linear_bwd(saved, g):
    x, kernel = saved
    flat = _matrix(g)
    # dx = g kernel^T and dk = x^T g, as contractions: neither operand is transposed in memory. The sum over
    # all rows in dk is accumulated in float32.
    dx = jax.lax.dot_general(flat, kernel, (((1,), (1,)), ((), ())))
    dk = jax.lax.dot_general(_matrix(x), flat, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return dx.reshape(x.shape), dk.astype(kernel.dtype)


linear.defvjp(_linear_fwd, _linear_bwd)


@jax.custom_vjp
def against(x: Float[Array, "*B W"], table: Float[Array, "V W"]) -> Float[Array, "*B V"]:
    """Return x @ table.T, the logits of a tied embedding, without a transposed copy of the table.

    One matrix product in the forward pass and two in the backward pass, as in `linear`.
    """
    y = jax.lax.dot_general(_matrix(x), table, (((1,), (1,)), ((), ())))
    return y.reshape(*x.shape[:-1], -1)


def _against_fwd(x, table):
    return against(x, table), (x, table)


def _against_bwd(saved, g):
    x, table = saved
    flat = _matrix(g)
    dx = flat @ table
    dt = jax.lax.dot_general(flat, _matrix(x), (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return dx.reshape(x.shape), dt.astype(table.dtype)


against.defvjp(_against_fwd, _against_bwd)


def _matrix(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


@jax.custom_vjp
def linears(
    x: Float[Array, "*B I"], kernels: tuple[Float[Array, "I _"], ...]
) -> tuple[Float[Array, "*B _"], ...]:
    """Return x @ kernel for each kernel, as one product.

    On a CPU this takes half the time of three products if the widths are small. JAX's derivative of the split
    would pad each part's gradient with zeros and add the results; here the gradients are concatenated.
    """
    return _split(linear(x, jnp.concatenate(kernels, axis=1)), kernels)


def _linears_fwd(x, kernels):
    return linears(x, kernels), (x, kernels)


def _linears_bwd(saved, g):
    x, kernels = saved
    dx, dk = _linear_bwd((x, jnp.concatenate(kernels, axis=1)), jnp.concatenate(g, axis=-1))
    return dx, _split(dk, kernels)


linears.defvjp(_linears_fwd, _linears_bwd)


def _split(y: jax.Array, kernels: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    ends = itertools.accumulate(k.shape[1] for k in kernels)
    return tuple(y[..., end - k.shape[1] : end] for end, k in zip(ends, kernels, strict=True))


class Linear(nn.Module):
    """Apply x @ kernel (+ bias), computed in `dtype`; parameters are float32.

    Attributes:
      features: O, the output width.
      bias: learn a bias.
      std: initial standard deviation of the kernel.
    """

    features: int
    bias: bool
    std: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        kernel, bias = _weights(self, x.shape[-1], self.features, self.bias, self.std)
        y = linear(x.astype(self.dtype), kernel.astype(self.dtype))
        return _biased(y, bias)


class Weights(nn.Module):
    """Hold the parameters of one linear layer: `kernel`, and `bias` or None."""

    inputs: int
    features: int
    bias: bool
    std: float

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "I O"], Float[Array, " O"] | None]:
        return _weights(self, self.inputs, self.features, self.bias, self.std)


class Linears(nn.Module):
    """Apply several linear layers to one input as one product; each has parameters of its own.

    Attributes:
      features: name -> output width of each layer.
      bias: learn a bias in each layer.
      std: initial standard deviation of the kernels, or name -> standard deviation of each.
      dtype: dtype of the computation; parameters are float32.
    """

    features: Mapping[str, int]
    bias: bool
    std: float | Mapping[str, float]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> tuple[Float[Array, "*B _"], ...]:
        weights = [
            Weights(x.shape[-1], size, self.bias, self._std(name), name=name)()
            for name, size in self.features.items()
        ]
        x = x.astype(self.dtype)
        kernels = tuple(kernel.astype(self.dtype) for kernel, _ in weights)
        # On accelerators separate products are as fast, and a concatenation of sharded kernels would have to
        # gather them.
        joined = jax.default_backend() == "cpu"
        ys = linears(x, kernels) if joined else tuple(linear(x, kernel) for kernel in kernels)
        return tuple(_biased(y, bias) for y, (_, bias) in zip(ys, weights, strict=True))

    def _std(self, name: str) -> float:
        return self.std[name] if isinstance(self.std, Mapping) else self.std


def _weights(module: nn.Module, inputs: int, features: int, bias: bool, std: float):
    kernel = module.param("kernel", nn.initializers.normal(std), (inputs, features))
    if not bias:
        return kernel, None
    return kernel, module.param("bias", nn.initializers.zeros, (features,))


def _biased(y: Float[Array, "*B O"], bias: Float[Array, " O"] | None) -> Float[Array, "*B O"]:
    if bias is None:
        return y
    return y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + bias.shape)
