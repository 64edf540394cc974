"""What the loop costs beside its bare compiled step: `python -m experiments.benchmarks.loop_overhead`.

A VAE-sized MLP (784-400-20, batch 128, adam) on random pixels, one device. Bare: the same compiled
step on batches that already lie on the device, with no metrics read. Loop: `train` with everything on
(data pipeline, metrics lines, TensorBoard, progress), timed between two of its own log lines. The two
take turns, so that a busy machine slows both alike; the figure is the median over the turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core import Aux, Element, Mean, Model, Play, Spec, Variables
from genjax.data.dataset import Dataset, Split
from genjax.data.rows import Arrays
from genjax.training import Config, optimizers, step
from genjax.training.engine import Engine
from genjax.training.loop import train

BATCH, PIXELS, HIDDEN, LATENT = 128, 784, 400, 20
ADAM = optimizers.Config(name="adam", learning_rate=1e-3)


def vae() -> Model:
    """Kingma & Welling 2014's MLP with a Bernoulli decoder."""

    def dense(key, m, n):
        return {"kernel": jax.random.normal(key, (m, n)) * m**-0.5, "bias": jnp.zeros(n)}

    def apply(p, x):
        return x @ p["kernel"] + p["bias"]

    def init(key, batch, frozen):
        shapes = {
            "in": (PIXELS, HIDDEN),
            "code": (HIDDEN, 2 * LATENT),
            "mid": (LATENT, HIDDEN),
            "out": (HIDDEN, PIXELS),
        }
        keys = jax.random.split(key, len(shapes))
        return Variables({"vae": {n: dense(k, *s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}})

    def loss(variables, batch, keys, *, step):
        p, x = variables.params["vae"], batch["image"].reshape(-1, PIXELS).astype(jnp.float32) / 255
        mean, log_var = jnp.split(apply(p["code"], jax.nn.relu(apply(p["in"], x))), 2, axis=1)
        noise = jax.vmap(lambda k: jax.random.normal(k, (LATENT,)))(keys)
        logits = apply(p["out"], jax.nn.relu(apply(p["mid"], mean + jnp.exp(0.5 * log_var) * noise)))
        nats = (jnp.maximum(logits, 0) - logits * x + jnp.log1p(jnp.exp(-jnp.abs(logits)))).sum(1)
        kl = 0.5 * (jnp.exp(log_var) + mean**2 - 1 - log_var).sum(1)
        return Mean.of(nats + kl, batch["mask"]), Aux(variables.state, {"kl": Mean.of(kl, batch["mask"])})

    return Model(init, {"vae": Play("vae", loss)})


def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5000, 28, 28, 1), np.uint8)
    spec = Spec({"image": Element((28, 28, 1), "uint8", 256)}, len(images))
    return Dataset(
        "noise",
        spec,
        Split("train", Arrays({"image": images})),
        Split("eval", Arrays({"image": images[:128]})),
        "",
    )


def bare(data: Dataset, steps: int) -> float:
    """Seconds a step, of the compiled step alone."""
    stream = data.train.stream(batch=BATCH)
    engine = Engine(
        vae(), {"vae": optimizers.make(ADAM, steps)}, Config(), stream[0], devices=jax.devices()[:1]
    )
    state, batches, plays = (
        engine.create(),
        [engine.put([stream[n]]) for n in range(8)],
        (step.due(vae(), 0),),
    )
    for n in range(20):
        state, packed = engine.step(state, batches[n % 8], plays)
    jax.block_until_ready((state, packed))
    start = time.perf_counter()
    for n in range(steps):
        state, packed = engine.step(state, batches[n % 8], plays)
        if n % 8 == 7:
            jax.block_until_ready(packed)
    jax.block_until_ready(state)
    return (time.perf_counter() - start) / steps


def whole(data: Dataset, steps: int, log_every: int) -> float:
    """Seconds a step, of the loop, from its first log line to its last of training."""
    config = Config(steps=steps + log_every, log_every=log_every, checkpoint_every=0)
    with tempfile.TemporaryDirectory() as directory:
        train(vae(), data, config, {"vae": ADAM}, directory=directory, batch=BATCH, devices=jax.devices()[:1])
        rows = [json.loads(line) for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]
    at = {row["step"]: row["seconds"] for row in rows if row["split"] == "train"}
    first, last = min(at), max(at)
    return (at[last] - at[first]) / (last - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    data, ratios = dataset(), []
    for _ in range(args.turns):
        a, b = bare(data, args.steps), whole(data, args.steps, args.log_every)
        ratios.append(a / b)
        print(f"bare {a * 1e3:.3f} ms, loop {b * 1e3:.3f} ms a step: {100 * a / b:.1f}%", flush=True)
    print(
        f"the loop runs at {100 * statistics.median(ratios):.1f}% of the bare step (median of {args.turns})"
    )


if __name__ == "__main__":
    main()
