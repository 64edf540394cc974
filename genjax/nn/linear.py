"""Linear layers whose products keep the layouts that a CPU multiplies fastest."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def linear(x: Float[Array, "*B I"], kernel: Float[Array, "I O"]) -> Float[Array, "*B O"]:
    """x @ kernel, as one product of matrices forwards and two backwards.

    The derived gradient of a product over more than one leading axis contracts them both, for which XLA's
    CPU compiler writes a transposed copy of the output's gradient, fused with whatever computed it: several
    times the product's own cost. Flattened first, no copy is made.
    """
    return _matrix(x) @ kernel if x.ndim == 2 else (_matrix(x) @ kernel).reshape(*x.shape[:-1], -1)


def _linear_fwd(x, kernel):
    return linear(x, kernel), (x, kernel)


def _linear_bwd(saved, g):
    x, kernel = saved
    flat = _matrix(g)
    dx = jax.lax.dot_general(flat, kernel, (((1,), (1,)), ((), ())))
    dk = jax.lax.dot_general(_matrix(x), flat, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return dx.reshape(x.shape), dk.astype(kernel.dtype)


linear.defvjp(_linear_fwd, _linear_bwd)


@jax.custom_vjp
def against(x: Float[Array, "*B W"], table: Float[Array, "V W"]) -> Float[Array, "*B V"]:
    """x @ table.T without the transposed copy of the table: the logits of a tied embedding.

    One product of matrices forwards and two backwards, as `linear`.
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
    """x @ kernel for each kernel, as one product: on a CPU half the time of three where widths are small.

    The derived gradient of splitting the product would pad each part's gradient with zeros and add them.
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
    """x @ kernel (+ bias), computed in `dtype`; parameters are float32.

    Attributes:
      std: the kernel's initial standard deviation.
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
    """The parameters of one linear layer: `kernel`, and `bias` or None."""

    inputs: int
    features: int
    bias: bool
    std: float

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "I O"], Float[Array, " O"] | None]:
        return _weights(self, self.inputs, self.features, self.bias, self.std)


class Linears(nn.Module):
    """Several linear layers of one input, each with parameters of its own, computed as one product.

    Attributes:
      features: name -> width of each.
      std: the kernels' initial standard deviation, or name -> that of each.
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
        x, kernels = x.astype(self.dtype), tuple(kernel.astype(self.dtype) for kernel, _ in weights)
        # Elsewhere separate products are as fast, and kernels divided among devices are not joined.
        joined = jax.default_backend() == "cpu"
        ys = linears(x, kernels) if joined else tuple(linear(x, kernel) for kernel in kernels)
        return tuple(_biased(y, bias) for y, (_, bias) in zip(ys, weights, strict=True))

    def _std(self, name: str) -> float:
        return self.std[name] if isinstance(self.std, Mapping) else self.std


def _weights(module: nn.Module, inputs: int, features: int, bias: bool, std: float):
    kernel = module.param("kernel", nn.initializers.normal(std), (inputs, features))
    return kernel, module.param("bias", nn.initializers.zeros, (features,)) if bias else None


def _biased(y: Float[Array, "*B O"], bias: Float[Array, " O"] | None) -> Float[Array, "*B O"]:
    if bias is None:
        return y
    return y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + bias.shape)
