"""Measure the overhead of the training loop over its bare compiled step, on one device.

    python -m experiments.benchmarks.loop_overhead [--model vae|gpt] [--steps 1000] [--turns 5]

`--model vae`: an MLP (784-400-20, batch 128, Adam) on random pixels. `--model gpt`: nanoGPT's CPU size (4
layers, 4 heads, width 128, context 64, batch 12) on random tokens. Bare: the same compiled step on batches
that are already on the device, without reading metrics. Loop: `train` with everything on (data pipeline,
metrics lines, TensorBoard, progress). The two alternate, so that a busy machine slows both alike, and
processor time is reported beside wall-clock time, for a shared machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core import Aux, Element, Mean, Model, Phase, Spec, Variables
from genjax.data.dataset import Dataset, Split
from genjax.data.rows import Arrays, Windows
from genjax.models import gpt
from genjax.training import Config, optimizers, step
from genjax.training.engine import Engine
from genjax.training.loop import Hooks, train

PIXELS = 784
HIDDEN = 400
LATENT = 20
ADAM = optimizers.Config(name="adam", learning_rate=1e-3)


def vae() -> Model:
    """Define the MLP VAE of Kingma & Welling 2014 (arXiv:1312.6114, app. C) with a Bernoulli decoder."""

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
        p = variables.params["vae"]
        x = batch["image"].reshape(-1, PIXELS).astype(jnp.float32) / 255
        mean, log_var = jnp.split(apply(p["code"], jax.nn.relu(apply(p["in"], x))), 2, axis=1)
        noise = jax.vmap(lambda k: jax.random.normal(k, (LATENT,)))(keys)
        logits = apply(p["out"], jax.nn.relu(apply(p["mid"], mean + jnp.exp(0.5 * log_var) * noise)))
        # -log Bernoulli(x | logits) = softplus(logits) - logits x, in the form that cannot overflow.
        nats = (jnp.maximum(logits, 0) - logits * x + jnp.log1p(jnp.exp(-jnp.abs(logits)))).sum(1)
        # KL(N(mean, var) || N(0, I)) in closed form.
        kl = 0.5 * (jnp.exp(log_var) + mean**2 - 1 - log_var).sum(1)
        return Mean.of(nats + kl, batch["mask"]), Aux(variables.state, {"kl": Mean.of(kl, batch["mask"])})

    return Model(init, {"vae": Phase("vae", loss)})


class Case(NamedTuple):
    """Hold a model, its player, its data and its batch size."""

    model: Model
    player: str
    data: Dataset
    batch: int


def case(name: str) -> Case:
    """Return the model of this name with random data."""
    if name == "vae":
        return Case(vae(), "vae", pixels(), 128)
    data = tokens()
    return Case(gpt.build(gpt.Config(condition_dropout=0.0), data.spec, {}), "model", data, 12)


def tokens() -> Dataset:
    """Return random text: 65 characters, context 64."""
    text = np.random.default_rng(0).integers(0, 65, 1_000_000)
    rows = Windows(text, 64)
    spec = Spec({"tokens": Element((65,), "int32", 65, kind="tokens", role="target")}, len(rows))
    return Dataset("noise", spec, Split("train", rows), Split("eval", Windows(text[:1000], 64)), "")


def pixels() -> Dataset:
    """Return random images of 28x28 pixels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5000, 28, 28, 1), np.uint8)
    spec = Spec({"image": Element((28, 28, 1), "uint8", 256, kind="image", role="target")}, len(images))
    return Dataset(
        "noise",
        spec,
        Split("train", Arrays({"image": images})),
        Split("eval", Arrays({"image": images[:128]})),
        "",
    )


def clocks() -> np.ndarray:
    """Return (wall-clock seconds, processor seconds of this process)."""
    return np.array([time.perf_counter(), time.process_time()])


def bare(case: Case, steps: int) -> np.ndarray:
    """Measure seconds per step (wall clock, processor) of the compiled step alone."""
    stream = case.data.train.stream(batch=case.batch)
    engine = Engine(
        case.model,
        {case.player: optimizers.make(ADAM, steps)},
        Config(),
        stream[0],
        devices=jax.devices()[:1],
    )
    state = engine.create()
    batches = [engine.put([stream[n]]) for n in range(8)]
    phases = (step.due(case.model, 0),)
    packed = None
    start = clocks()
    for n in range(steps + 20):
        if n == 20:
            # Compiled and warm: timing starts here.
            jax.block_until_ready(state)
            start = clocks()
        state, packed = engine.step(state, batches[n % 8], phases)
        if n % 8 == 7:
            jax.block_until_ready(packed)
    jax.block_until_ready(state)
    return (clocks() - start) / steps


def whole(case: Case, steps: int, log_every: int, per_call: int) -> np.ndarray:
    """Measure seconds per step (wall clock, processor) of the loop, over the middle third of a run."""
    config = Config(
        steps=3 * steps,
        steps_per_call=per_call,
        log_every=log_every,
        checkpoint_every=0,
        sample_every=steps,
    )
    times: list[np.ndarray] = []
    hooks = Hooks(on_sample=lambda variables, n: times.append(clocks()))
    with tempfile.TemporaryDirectory() as directory:
        how = {"directory": directory, "batch": case.batch, "hooks": hooks, "devices": jax.devices()[:1]}
        train(case.model, case.data, config, {case.player: ADAM}, **how)
    return (times[1] - times[0]) / steps


def main() -> None:
    """Time the bare step and the loop in turn and print their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps-per-call", type=int, default=1, help="train.steps_per_call of the loop")
    parser.add_argument("--model", choices=("vae", "gpt"), default="vae")
    args = parser.parse_args()
    chosen = case(args.model)
    ratios = []
    for _ in range(args.turns):
        a = bare(chosen, args.steps)
        b = whole(chosen, args.steps, args.log_every, args.steps_per_call)
        ratios.append(a / b)
        print(
            f"bare {a[0] * 1e3:.3f} ms, loop {b[0] * 1e3:.3f} ms a step: {100 * a[0] / b[0]:.1f}% "
            f"(processor time {a[1] * 1e3:.3f} and {b[1] * 1e3:.3f} ms: {100 * a[1] / b[1]:.1f}%)",
            flush=True,
        )
    wall, cpu = np.median(ratios, axis=0) * 100
    print(f"the loop runs at {wall:.1f}% of the bare step, {cpu:.1f}% by processor time ({args.turns} turns)")


if __name__ == "__main__":
    main()
