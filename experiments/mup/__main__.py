"""Compare muP with the standard parametrisation: activation sizes and the best learning rate by width.

    python -m experiments.mup                 # both (minutes on one core): coordinates.png, sweep.png, tables
    python -m experiments.mup --only sweep --steps 200

Each (parametrisation, width) is compiled once: all learning rates are trained together, with vmap.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genjax import data
from genjax.core import Batch, Model, Spec, Variables
from genjax.models import gpt
from genjax.training import optimizers

FORMS = {"standard": False, "muP": True}

NONE: Any = None
"""Keys of an objective without dropout, which draws no noise."""


def network(width: int, mup: bool, base: int, spec: Spec) -> tuple[gpt.Config, Model]:
    """Return a GPT of two layers and four heads of this width; with muP, `base` is the base width."""
    config = gpt.Config(layers=2, heads=4, width=width, mup_base=base if mup else None, condition_dropout=0.0)
    return config, gpt.build(config, spec, {})


def train(model: Model, rows: Batch, rates: np.ndarray, seed: int) -> np.ndarray:
    """Train with Adam at each of the learning rates, from the same weights; return rates x steps losses.

    Args:
      rows: batches, stacked along a first axis, one per step.
      rates: learning rates.
    """
    unit = optimizers.Config(name="adam", learning_rate=1.0, b2=0.99)
    adam = optimizers.make(unit, len(rows["mask"]), optimizers.factors(model, "model"))

    @jax.jit
    def run(rates: jax.Array, rows: Batch) -> jax.Array:
        first = jax.tree.map(lambda x: x[0], rows)
        params = model.init(jax.random.key(seed), first, {}).params

        def one(rate: jax.Array) -> jax.Array:
            def step(state: tuple, batch: Batch) -> tuple:
                params, opt = state

                def loss(p: Any) -> jax.Array:
                    return model.phases["nll"].objective(Variables(params=p), batch, NONE, step=None)[0].value

                value, g = jax.value_and_grad(loss)(params)
                # Adam's update is proportional to its learning rate: scale the update at rate 1.
                updates, opt = adam.update(g["model"], opt, params["model"])
                updates = jax.tree.map(lambda u: rate * u, updates)
                return ({"model": optax.apply_updates(params["model"], updates)}, opt), value

            return jax.lax.scan(step, (params, adam.init(params["model"])), rows)[1]

        return jax.vmap(one)(rates)

    return np.asarray(run(jnp.asarray(rates, jnp.float32), rows))


def coordinates(
    config: gpt.Config, model: Model, spec: Spec, rows: Batch, rate: float, seed: int
) -> dict[str, np.ndarray]:
    """Return {activation: mean |coordinate| before the first and after each step} of Adam at one rate."""
    adam = optimizers.make(
        optimizers.Config(name="adam", learning_rate=rate, b2=0.99),
        len(rows["mask"]),
        optimizers.factors(model, "model"),
    )
    view = gpt.view(spec)
    module = gpt.GPT(config, view)

    def probe(params: Any, batch: Batch) -> dict[str, jax.Array]:
        inputs = view.encode(batch)[0]
        places = jnp.broadcast_to(jnp.arange(inputs.shape[1])[None], inputs.shape)
        _, seen = module.apply(
            {"params": params}, inputs, places, capture_intermediates=True, mutable=["intermediates"]
        )
        seen = seen["intermediates"]
        block = seen["stack"]["block_1"]
        size = lambda x: jnp.abs(x).mean()
        return {
            "attention": size(block["attention"]["__call__"][0][0]),
            "residual": size(block["__call__"][0][0]),
            "logits": size(seen["__call__"][0][0]),
        }

    @jax.jit
    def run(rows: Batch) -> dict[str, jax.Array]:
        first = jax.tree.map(lambda x: x[0], rows)
        params = model.init(jax.random.key(seed), first, {}).params["model"]

        def step(state: tuple, batch: Batch) -> tuple:
            params, opt = state

            def loss(p: Any) -> jax.Array:
                v = Variables(params={"model": p})
                return model.phases["nll"].objective(v, batch, NONE, step=None)[0].value

            sizes = probe(params, first)
            updates, opt = adam.update(jax.grad(loss)(params), opt, params)
            return (optax.apply_updates(params, updates), opt), sizes

        return jax.lax.scan(step, (params, adam.init(params)), rows)[1]

    return {k: np.asarray(v) for k, v in run(rows).items()}


def batches(name: str, steps: int, batch: int, length: int, seed: int) -> tuple[Batch, Spec]:
    """Return `steps` batches of a dataset's training split, stacked, and the dataset's spec."""
    dataset = data.load(data.Config(name=name, batch=batch, length=length))
    stream = dataset.train.stream("shuffled", batch, seed)
    rows = [stream[i] for i in range(steps)]
    return {k: jnp.stack([jnp.asarray(r[k]) for r in rows]) for k in rows[0]}, dataset.spec


def sweep(args: argparse.Namespace) -> dict[str, dict[int, np.ndarray]]:
    """Return {form: {width: mean loss over the last tenth of the steps, per learning rate}}."""
    rows, spec = batches(args.data, args.steps, args.batch, args.length, args.seed)
    last = max(1, args.steps // 10)
    found = {}
    for form, mup in FORMS.items():
        found[form] = {}
        for width in args.widths:
            model = network(width, mup, args.base, spec)[1]
            losses = train(model, rows, np.array(args.rates), args.seed)[:, -last:].mean(1)
            found[form][width] = np.where(np.isfinite(losses), losses, np.inf)
            print(f"{form} {width}: " + " ".join(f"{x:.3f}" for x in losses), flush=True)
    return found


def check(args: argparse.Namespace) -> dict[str, dict[int, dict[str, np.ndarray]]]:
    """Return {form: {width: coordinates}}."""
    rows, spec = batches(args.data, args.probe_steps, args.batch, args.length, args.seed)
    return {
        form: {
            width: coordinates(*network(width, mup, args.base, spec), spec, rows, args.probe_rate, args.seed)
            for width in args.widths
        }
        for form, mup in FORMS.items()
    }


def draw_check(found: Mapping, path: Path) -> None:
    """Plot activation sizes against width: a panel per form and activation, a line per step."""
    from matplotlib.figure import Figure

    names = ["attention", "residual", "logits"]
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey="col")
    for row, (form, sizes) in zip(axes, found.items(), strict=True):
        for axis, name in zip(row, names, strict=True):
            table = np.array([sizes[w][name] for w in sizes])
            for step in range(table.shape[1]):
                shade = str(0.75 * (1 - step / max(1, table.shape[1] - 1)))
                axis.plot(list(sizes), table[:, step], "o-", color=shade, label=f"step {step}")
            axis.set(xscale="log", yscale="log", title=f"{form}: {name}", xticks=list(sizes))
            axis.set_xticks(list(sizes), [str(w) for w in sizes])
            axis.minorticks_off()
        row[0].set_ylabel("mean |coordinate|")
    axes[0, 2].legend(fontsize=7)
    figure.savefig(path, dpi=110)


def draw_sweep(found: Mapping, rates: list[float], path: Path) -> None:
    """Plot loss against learning rate: a panel per form, a line per width, the best rate marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    low = min(x.min() for widths in found.values() for x in widths.values())
    for axis, (form, widths) in zip(figure.subplots(1, 2, sharey=True), found.items(), strict=True):
        for n, (width, losses) in enumerate(widths.items()):
            colour = str(0.75 - 0.75 * n / max(1, len(widths) - 1))
            axis.plot(rates, losses, ".-", color=colour, label=f"width {width}")
            axis.plot(rates[int(losses.argmin())], losses.min(), "o", color=colour)
        axis.set(xscale="log", title=form, xlabel="learning rate", ylabel="training loss, nats per byte")
        axis.set_ylim(low - 0.05, low + 1.0)
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the coordinate check and the sweep, or one of them; save the plots and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("coordinates", "sweep"))
    parser.add_argument("--data", default="pydoc")
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--base", type=int, default=32)
    parser.add_argument("--rates", type=float, nargs="+", default=[2.0**-n for n in range(11, 3, -1)])
    parser.add_argument("--probe-rate", type=float, default=2.0**-7)
    for name, default in {"steps": 100, "probe_steps": 4, "batch": 8, "length": 32, "seed": 0}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=Path("runs") / "mup")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only != "sweep":
        found = check(args)
        draw_check(found, args.out / "coordinates.png")
        print("| | width | " + " | ".join(f"logits, step {n}" for n in range(args.probe_steps)) + " |")
        print("|---|---" + "|---" * args.probe_steps + "|")
        for form, sizes in found.items():
            for width, seen in sizes.items():
                print(f"| {form} | {width} | " + " | ".join(f"{x:.3f}" for x in seen["logits"]) + " |")
    if args.only != "coordinates":
        swept = sweep(args)
        draw_sweep(swept, args.rates, args.out / "sweep.png")
        print("| width | best rate, standard | loss | best rate, muP | loss |\n|---|---|---|---|---|")
        for width in args.widths:
            best = [
                (np.log2(args.rates[int(swept[f][width].argmin())]), swept[f][width].min()) for f in FORMS
            ]
            print(f"| {width} | " + " | ".join(f"2^{n:.0f} | {loss:.3f}" for n, loss in best) + " |")


if __name__ == "__main__":
    main()
