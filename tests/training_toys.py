"""Small models that together use all of the contract, and data for them. For the tests of training."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core import Aux, Element, Mean, Model, Phase, Spec, Variables, across
from genjax.data.dataset import Dataset, Split
from genjax.data.rows import Arrays

D, T, V = 6, 5, 7


def dataset(rows: int = 100, held: int = 21, seed: int = 0, bad: int | None = None) -> Dataset:
    """Ragged rows: points of D numbers of which `valid` says how many count, and tokens.

    Args:
      bad: this row of the training split is NaN.
    """

    def part(n: int, seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        valid = np.arange(D) < rng.integers(1, D + 1, n)[:, None]
        return {
            "point": rng.normal(size=(n, D)).astype(np.float32),
            "valid": valid.astype(np.float32),
            "tokens": rng.integers(0, V, (n, T + 1)).astype(np.int32),
        }

    train, held_out = part(rows, seed), part(held, seed + 1)
    if bad is not None:
        train["point"][bad] = np.nan
    elements = {
        "point": Element((D,), "float32"),
        "valid": Element((D,), "float32"),
        "tokens": Element((T + 1,), "int32", V, "tokens", "target"),
    }
    content = hashlib.sha256(b"".join(x.tobytes() for x in train.values())).hexdigest()
    splits = Split("train", Arrays(train)), Split("eval", Arrays(held_out))
    return Dataset("toy", Spec(elements, rows), *splits, fingerprint=content)


def _dense(key: jax.Array, m: int, n: int) -> dict[str, jax.Array]:
    return {"kernel": jax.random.normal(key, (m, n)) * m**-0.5, "bias": jnp.zeros(n)}


def _apply(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return x @ p["kernel"] + p["bias"][None]


def mlp(width: int = 16, dropout: float = 0.3) -> Model:
    """Fills in a noised point: a masked loss over ragged rows, with dropout."""

    def init(key, batch, frozen):
        k = jax.random.split(key)
        params = {"inner": _dense(k[0], D, width), "outer": _dense(k[1], width, D)}
        return Variables({"mlp": params})

    def loss(variables, batch, keys, *, step):
        p, x = variables.params["mlp"], batch["point"]
        noise = jax.vmap(lambda k: jax.random.normal(k, (D,)))(keys)
        h = jnp.tanh(_apply(p["inner"], x + 0.1 * noise))
        if step is not None:
            keep = jax.vmap(lambda k: jax.random.bernoulli(jax.random.fold_in(k, 1), 1 - dropout, (width,)))(
                keys
            )
            h = jnp.where(keep, h / (1 - dropout), 0)
        error = (_apply(p["outer"], h) - x) ** 2
        mask = batch["valid"] * batch["mask"][:, None]
        return Mean.of(error, mask), Aux(variables.state, {"size": Mean.of(jnp.abs(x), mask)})

    return Model(init, {"mlp": Phase("mlp", loss)})


def adversarial(every: int = 3) -> Model:
    """Two players; the critic has a lazy regulariser at every `every`-th step, and a running sum in state."""

    def init(key, batch, frozen):
        k = jax.random.split(key, 4)
        critic = {"inner": _dense(k[0], D, 8), "outer": _dense(k[1], 8, 1)}
        generator = {"inner": _dense(k[2], 4, 8), "outer": _dense(k[3], 8, D)}
        return Variables({"critic": critic, "generator": generator}, {"seen": jnp.zeros(D)})

    def score(p, x):
        return _apply(p["outer"], jax.nn.gelu(_apply(p["inner"], x)))[:, 0]

    def fake(variables, keys):
        z = jax.vmap(lambda k: jax.random.normal(k, (4,)))(keys)
        p = variables.params["generator"]
        return _apply(p["outer"], jax.nn.gelu(_apply(p["inner"], z)))

    def critic(variables, batch, keys, *, step):
        real, p = batch["point"], variables.params["critic"]
        if step is not None:  # dropout on what it sees
            keep = jax.vmap(lambda k: jax.random.bernoulli(jax.random.fold_in(k, 1), 0.8, (D,)))(keys)
            real = jnp.where(keep, real, 0)
        loss = jax.nn.softplus(-score(p, real)) + jax.nn.softplus(score(p, fake(variables, keys)))
        state = variables.state
        if step is not None:
            total = across((real * batch["mask"][:, None]).sum(0))
            state = {"seen": 0.9 * state["seen"] + 0.1 * total}
        return Mean.of(loss, batch["mask"]), Aux(state)

    def regulariser(variables, batch, keys, *, step):
        slope = jax.vmap(jax.grad(lambda x: score(variables.params["critic"], x[None])[0]))(batch["point"])
        return Mean.of((slope**2).sum(1), batch["mask"]), Aux(variables.state)

    def generator(variables, batch, keys, *, step):
        loss = jax.nn.softplus(-score(variables.params["critic"], fake(variables, keys)))
        return Mean.of(loss, batch["mask"]), Aux(variables.state)

    phases = {
        "critic": Phase("critic", critic),
        "smooth": Phase("critic", regulariser, every),
        "generator": Phase("generator", generator),
    }
    return Model(init, phases)


def recurrent(width: int = 8) -> Model:
    """A tanh RNN over tokens that carries its hidden state from batch to batch of the same lanes."""

    def init(key, batch, frozen):
        k = jax.random.split(key, 3)
        table = jax.random.normal(k[0], (V, width))
        return Variables(
            {"rnn": {"table": table, "cell": _dense(k[1], width, width), "out": _dense(k[2], width, V)}}
        )

    def carry(batch):
        return {"h": jnp.zeros((batch["mask"].shape[0], width))}

    def loss(variables, batch, keys, *, step):
        p, tokens = variables.params["rnn"], batch["tokens"]
        h = batch["carry"]["h"]
        if "reset" in batch:
            h = h * (1 - batch["reset"][:, None])

        def cell(h, token):
            h = jnp.tanh(p["table"][token] + _apply(p["cell"], h))
            return h, _apply(p["out"], h)

        h, logits = jax.lax.scan(cell, h, tokens[:, :-1].T)
        nll = -jnp.take_along_axis(jax.nn.log_softmax(logits.swapaxes(0, 1)), tokens[:, 1:, None], 2)[..., 0]
        return Mean.of(nll, batch["mask"]), Aux(variables.state, {}, {"h": jax.lax.stop_gradient(h)})

    return Model(init, {"rnn": Phase("rnn", loss)}, carry=carry)


def counts() -> Model:
    """Unigram counts: nothing is learned by gradient."""

    def init(key, batch, frozen):
        return Variables({"unigram": {}}, {"counts": jnp.zeros(V, jnp.int32)})

    def loss(variables, batch, keys, *, step):
        tokens, mask = batch["tokens"][:, 1:], batch["mask"]
        n = variables.state["counts"]
        p = (n + 1) / (n.sum() + V)
        state = variables.state
        if step is not None:
            new = jnp.zeros(V, jnp.int32).at[tokens].add(mask.astype(jnp.int32)[:, None])
            state = {"counts": n + across(new)}
        return Mean.of(-jnp.log(p)[tokens], mask), Aux(state)

    return Model(init, {"count": Phase("unigram", loss)})
