"""The GPT-2 form against torch.nn's own layers with the same weights: logits, loss and gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from genjax.core import Element, Spec
from genjax.models import gpt

pytestmark = pytest.mark.peers

W, H, L, T, V = 32, 4, 2, 12, 11


def _torch_logits(p: dict, tokens):
    """Pre-norm blocks out of torch.nn.functional and torch.nn.MultiheadAttention."""
    functional = torch.nn.functional
    x = p["token_embedding"][tokens] + p["position_embedding"][: tokens.shape[1]]
    later = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()

    def norm(x, q):
        return functional.layer_norm(x, (W,), q["scale"], q["bias"])

    for i in range(L):
        b = p["stack"][f"block_{i}"]
        a = b["attention"]
        projections = [a["project"][name] for name in ("query", "key", "value")]
        y = norm(x, b["attention_norm"]).transpose(0, 1)
        y, _ = functional.multi_head_attention_forward(
            y,
            y,
            y,
            W,
            H,
            torch.cat([q["kernel"].T for q in projections]),
            torch.cat([q["bias"] for q in projections]),
            None,
            None,
            False,
            0.0,
            a["out"]["kernel"].T,
            a["out"]["bias"],
            attn_mask=later,
            need_weights=False,
        )
        x = x + y.transpose(0, 1)
        m = b["mlp"]
        y = norm(x, b["mlp_norm"]) @ m["project"]["up"]["kernel"] + m["project"]["up"]["bias"]
        x = x + functional.gelu(y, approximate="tanh") @ m["down"]["kernel"] + m["down"]["bias"]
    return norm(x, p["stack"]["norm"]) @ p["token_embedding"][:V].T


def test_gpt2_form_equals_torch():
    spec = Spec({"tokens": Element((T + 1,), "int32", V, "tokens", "target")})
    config = gpt.Config(layers=L, heads=H, width=W, bias=True, tied=True, condition_dropout=0.0)
    model = gpt.build(config, spec, {})
    params = model.init(jax.random.key(0), spec.example(2), {}).params
    # Every leaf away from its special starting value, biases and scales too.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = tree.unflatten(
        [x + 0.2 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )
    rows = jax.random.randint(jax.random.key(2), (3, T + 1), 0, V)
    batch = {"tokens": rows, "mask": jnp.ones(3)}
    variables = model.init(jax.random.key(0), spec.example(2), {}).replace(params=params)

    theirs = jax.tree.map(lambda x: torch.tensor(np.array(x), requires_grad=True), params["model"])
    tokens = torch.tensor(np.array(rows), dtype=torch.long)
    expected = _torch_logits(theirs, tokens[:, :-1])
    assert model.decoder is not None
    logits, _ = model.decoder.step(variables, model.decoder.start(variables, {}, 3, T), rows[:, :-1])
    scale = float(expected.detach().abs().max())
    assert np.abs(np.array(logits) - expected.detach().numpy()).max() <= 1e-5 * scale

    loss = torch.nn.functional.cross_entropy(expected.flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()

    def ours(params):
        return (
            model.phases["nll"].objective(variables.replace(params=params), batch, None, step=None)[0].value
        )

    value, gradient = jax.value_and_grad(ours)(params)
    assert abs(float(value) - loss.item()) <= 1e-5
    for path, g in jax.tree_util.tree_leaves_with_path(gradient["model"]):
        other = theirs
        for key in path:
            other = other[key.key]
        assert np.abs(np.array(g) - other.grad.numpy()).max() <= 1e-5, jax.tree_util.keystr(path)
