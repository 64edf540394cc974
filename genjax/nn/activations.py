"""List the activations of a transformer's MLP by name.

PLAIN ones are applied to one projection; GATED ones (Shazeer 2020, arXiv:2002.05202) are applied to a gate
that multiplies a second projection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

Activation = Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu", "geglu"]

PLAIN: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    # So et al. 2021, arXiv:2109.08668.
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
}
GATED = {"swiglu": jax.nn.silu, "geglu": PLAIN["gelu_tanh"]}
