"""Linear layers whose products keep the layouts that a CPU multiplies fastest."""

from __future__ import annotations

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


def _matrix(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


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
        init = nn.initializers.normal(self.std)
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        y = linear(x.astype(self.dtype), kernel.astype(self.dtype))
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
            y = y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)
        return y
