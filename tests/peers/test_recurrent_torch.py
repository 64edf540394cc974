"""Recurrent stacks against torch.nn's RNN, LSTM, GRU with the same weights: outputs, states and gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from genjax.nn.recurrent import CELLS, Recurrent

pytestmark = pytest.mark.peers

B, T, W, H, L = 5, 13, 7, 12, 2
THEIRS = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def parameters(kind: str) -> dict:
    """Every leaf away from its starting value."""
    stack = Recurrent(kind, L, H)  # type: ignore[arg-type]
    start = jnp.zeros((1, 1, W)), Recurrent.zeros(kind, L, H, 1)  # type: ignore[arg-type]
    params = stack.init(jax.random.key(0), *start)["params"]
    leaves, tree = jax.tree.flatten(params)
    return tree.unflatten([x + 0.2 * random(n, *x.shape) for n, x in enumerate(leaves)])


def load(module: torch.nn.Module, params: dict) -> None:
    """Puts a stack's parameters in the torch module; what it has twice is left at zero the second time."""
    with torch.no_grad():
        for n in range(L):
            p = jax.tree.map(lambda x: torch.tensor(np.array(x)), params[f"layer_{n}"])
            getattr(module, f"weight_ih_l{n}").copy_(p["input"]["kernel"].T)
            getattr(module, f"weight_hh_l{n}").copy_(p["recurrent"]["kernel"].T)
            getattr(module, f"bias_ih_l{n}").copy_(p["bias"])
            getattr(module, f"bias_hh_l{n}").zero_()
            if "candidate_bias" in p:
                getattr(module, f"bias_hh_l{n}")[2 * H :] = p["candidate_bias"]


def close(ours: jax.Array, theirs: torch.Tensor | None) -> None:
    assert theirs is not None
    expected = theirs.detach().numpy()
    assert np.abs(np.asarray(ours) - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("kind", CELLS)
def test_outputs_states_and_gradients_equal_torch(kind):
    params, x, weight = parameters(kind), random(30, B, T, W), random(31, B, T, H)
    parts = CELLS[kind].states
    state = tuple(tuple(0.5 * random(40 + 2 * n + k, B, H) for k in range(parts)) for n in range(L))
    last = tuple(random(50 + k, B, H) for k in range(parts))
    stack = Recurrent(kind, L, H)  # type: ignore[arg-type]

    def loss(params, x, state):
        y, after = stack.apply({"params": params}, x, state)
        # Final states of both layers count too, so that their gradients are tried as well.
        ends = sum((a[-1] * w).sum() for layer in after for a, w in zip(layer, last, strict=True))
        return (y * weight).sum() + ends, (y, after)

    grads, (y, after) = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(params, x, state)

    module = THEIRS[kind](W, H, L, batch_first=True)
    load(module, params)
    to = lambda a: torch.tensor(np.array(a), requires_grad=True)
    x_t = to(x)
    state_t = [to(jnp.stack([layer[k] for layer in state])) for k in range(parts)]
    y_t, end_t = module(x_t, tuple(state_t) if parts == 2 else state_t[0])
    end_t = end_t if parts == 2 else (end_t,)
    total = (y_t * to(weight)).sum()
    for e, w in zip(end_t, last, strict=True):
        total = total + (e * to(w)[None]).sum()
    total.backward()

    close(y, y_t)
    for k in range(parts):
        close(jnp.stack([layer[k][-1] for layer in after]), end_t[k])
        close(jnp.stack([layer[k] for layer in grads[2]]), state_t[k].grad)
    close(grads[1], x_t.grad)
    for n in range(L):
        g = grads[0][f"layer_{n}"]
        close(g["input"]["kernel"].T, getattr(module, f"weight_ih_l{n}").grad)
        close(g["recurrent"]["kernel"].T, getattr(module, f"weight_hh_l{n}").grad)
        close(g["bias"], getattr(module, f"bias_ih_l{n}").grad)
        if "candidate_bias" in g:
            close(g["candidate_bias"], getattr(module, f"bias_hh_l{n}").grad[2 * H :])
