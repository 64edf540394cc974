"""Time diffusion against diffusers: U-Net and DiT, a training step and 50 steps of DDIM, in one process.

    python -m experiments.benchmarks.diffusion [--rounds 5] [--burst 1] [--batch 16] [--width 32] [--size 32]

Both sides compute in float32 with the same weights; before anything is timed, the outputs of both networks
are compared. The genjax side is the real step (training.step.make_step with models/diffusion.py) and the real
sampler; the torch side is UNet2DModel or DiTTransformer2DModel with the noise's squared error and
torch.optim.Adam(fused), and diffusers' DDIMScheduler in a loop; eager and under torch.compile. Also printed:
what the sampler adds to its network calls, seconds of compilation, and the memory of a step with and without
rematerialisation.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import harness
from genjax.core import Element, Model, Spec, row_keys
from genjax.interop import diffusers as interop
from genjax.models import diffusion
from genjax.training import step as training

STEPS = 50
CLASSES = 10


def config_of(name: str, args: argparse.Namespace, **changes: Any) -> diffusion.Config:
    """Return our config of a network."""
    if name == "unet":
        fields = {
            "network": "ldm_unet",
            "width": args.width,
            "multipliers": (1, 2, 2),
            "blocks": 2,
            "attention": (args.size // 4,),
            "head": 32,
            "groups": 8,
            "sines": "last",
        }
    else:
        fields = {
            "network": "transformer",
            "width": 4 * args.width,
            "blocks": 6,
            "head": 32,
            "patch": 4,
            "activation": "gelu_tanh",
            "norm": "layer",
            "qk_norm": False,
            "biases": True,
            "frequencies": 256,
            "sines": "shifted",
        }
    return diffusion.Config(**fields, **changes)


def spec_of(args: argparse.Namespace) -> Spec:
    """Return the data that both sides are trained on."""
    image = Element((args.size, args.size, 3), "uint8", 256, "image", "target")
    return Spec({"image": image, "label": Element((), "int32", CLASSES, "label", "condition")}, rows=1000)


def theirs(name: str, args: argparse.Namespace) -> Any:
    """Return diffusers' network of the same form."""
    sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
        from diffusers.models.unets.unet_2d import UNet2DModel

        if name == "dit":
            return DiTTransformer2DModel(
                num_attention_heads=4 * args.width // 32,
                attention_head_dim=32,
                in_channels=3,
                num_layers=6,
                sample_size=args.size,
                patch_size=4,
                num_embeds_ada_norm=CLASSES,
                norm_num_groups=1,
            )
        return UNet2DModel(
            sample_size=args.size,
            block_out_channels=(args.width, 2 * args.width, 2 * args.width),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            attention_head_dim=32,
            norm_num_groups=8,
            num_class_embeds=CLASSES + 1,
        )


def built(name: str, args: argparse.Namespace, **changes: Any) -> tuple[Model, Any, dict]:
    """Return our model, its state, and a batch."""
    spec = spec_of(args)
    model = diffusion.build(config_of(name, args, **changes), spec)
    batch = {k: jnp.asarray(x) for k, x in spec.example(args.batch).items()}
    rng = np.random.default_rng(0)
    batch["image"] = jnp.asarray(rng.integers(0, 256, batch["image"].shape), jnp.uint8)
    optimizers = {"denoiser": optax.adam(1e-4)}
    state = jax.jit(lambda key: training.create(model, optimizers, key, batch))(jax.random.key(0))
    params = jax.tree.map(
        lambda x: jnp.asarray(0.05 * rng.normal(size=x.shape), x.dtype), state.variables.params
    )
    return model, state.replace(variables=state.variables.replace(params=params)), batch


def load(name: str, network: Any, state: Any, args: argparse.Namespace) -> None:
    """Copy our parameters into diffusers' network."""
    import torch

    params = jax.device_get(state.variables.params["denoiser"])
    if name == "dit":
        tensors = interop.dit_tensors(params, config_of(name, args).patch)
    else:
        tensors = interop.unet_tensors(params["ldm_unet"])
    missing = network.load_state_dict({k: torch.tensor(x) for k, x in tensors.items()}, strict=False)
    if missing.unexpected_keys or [k for k in missing.missing_keys if "pos_embed" not in k]:
        raise SystemExit(f"{name}: the weights do not fit: {missing}")


def call(network: Any, x: Any, i: Any, label: Any) -> Any:
    """Return diffusers' prediction at step i (from 0)."""
    return network(x, i, class_labels=label).sample


def check(name: str, model: Model, state: Any, network: Any, args: argparse.Namespace) -> float:
    """Return the largest difference of both networks' estimates of the noise, over their maximum."""
    import torch

    x = np.random.default_rng(2).normal(size=(4, args.size, args.size, 3)).astype(np.float32)
    i = np.array([9, 250, 600, 990])
    label = np.array([0, 3, 9, 1])
    t = (i + 1) / 1000 if name == "unet" else i / 1000
    net = diffusion.Network(config_of(name, args), 3, CLASSES)
    params = {"params": state.variables.params["denoiser"]}
    ours = net.apply(params, jnp.asarray(x), jnp.asarray(t, jnp.float32), jnp.asarray(label))
    with torch.no_grad():
        y = call(network, torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(i), torch.tensor(label))
    found = y.permute(0, 2, 3, 1).numpy()
    del model
    return float(np.abs(np.asarray(ours) - found).max() / np.abs(found).max())


def our_step(model: Model, state: Any, batch: dict) -> tuple[Callable, float, Any]:
    """Return our training step, its seconds of compilation, and the compiled program."""
    optimizers = {"denoiser": optax.adam(1e-4)}
    jitted = jax.jit(training.make_step(model, optimizers), static_argnums=4, donate_argnums=0)
    root = jax.random.key(1)
    start = time.perf_counter()
    compiled = jitted.lower(state, {}, batch, root, ("denoise",)).compile()
    seconds = time.perf_counter() - start
    box = [jax.tree.map(jnp.copy, state)]

    def step() -> Any:
        box[0], metrics = compiled(box[0], {}, batch, root)
        return metrics

    return step, seconds, compiled


def our_samples(model: Model, state: Any, args: argparse.Namespace) -> Callable:
    """Return our sampling of a batch: 50 steps of DDIM in one program."""
    keys = row_keys(jax.random.key(0), 0, jnp.arange(args.batch))
    given = {"label": jnp.zeros(args.batch, jnp.int32)}
    assert model.sample is not None
    sample = model.sample
    return lambda: sample(state.variables, keys, given, steps=STEPS)["image"]


def our_calls(name: str, state: Any, args: argparse.Namespace) -> Callable:
    """Return as many calls of the network as the sampler makes, in one scan and nothing else."""
    net = diffusion.Network(config_of(name, args), 3, CLASSES)
    params = {"params": state.variables.params["denoiser"]}
    x = jax.random.normal(jax.random.key(0), (args.batch, args.size, args.size, 3))
    label = jnp.zeros(args.batch, jnp.int32)

    @jax.jit
    def run(params: Any, x: jax.Array) -> jax.Array:
        def body(x: jax.Array, t: jax.Array) -> tuple[Any, None]:
            return net.apply(params, x, jnp.full((args.batch,), t), label), None

        return jax.lax.scan(body, x, jnp.linspace(1.0, 0.02, STEPS))[0]

    return lambda: run(params, x)


def torch_step(network: Any, args: argparse.Namespace, batch: dict, *, compiled: bool) -> Callable:
    """Return diffusers' training step."""
    import torch
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    scheduler = DDPMScheduler(1000)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(network) if compiled else network
    images = torch.tensor(np.asarray(batch["image"])).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(np.asarray(batch["label"]), dtype=torch.long)

    def step() -> Any:
        x_0 = images.float() / 127.5 - 1.0
        i = torch.randint(0, 1000, (args.batch,))
        noise = torch.randn_like(x_0)
        optimizer.zero_grad(set_to_none=True)
        estimate = call(forward, scheduler.add_noise(x_0, noise, cast(Any, i)), i, labels)
        loss = (estimate - noise).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def torch_samples(network: Any, args: argparse.Namespace, *, compiled: bool) -> Callable:
    """Return diffusers' sampling of a batch with DDIMScheduler."""
    import torch
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler = DDIMScheduler(1000, timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    forward = torch.compile(network) if compiled else network
    label = torch.zeros(args.batch, dtype=torch.long)

    def run() -> Any:
        with torch.no_grad():
            x = torch.randn(args.batch, 3, args.size, args.size)
            for i in scheduler.timesteps:
                estimate = call(forward, x, i.expand(args.batch), label)
                x = cast(Any, scheduler.step(estimate, cast(Any, i), x)).prev_sample
        return x

    return run


def compare(name: str, args: argparse.Namespace) -> None:
    """Print the tables of one network."""
    model, state, batch = built(name, args)
    network = theirs(name, args)
    load(name, network, state, args)
    difference = check(name, model, state, network.eval(), args)
    if difference > 1e-4:
        raise SystemExit(f"{name}: the two sides compute different functions: {difference:.1e}")
    step, seconds, compiled = our_step(model, state, batch)
    thunks = {"genjax": step, "diffusers eager": torch_step(network, args, batch, compiled=False)}
    if args.compile:
        thunks["diffusers torch.compile"] = torch_step(network, args, batch, compiled=True)
    how: dict[str, Any] = {"rounds": args.rounds, "burst": args.burst, "warmup": 1}
    rows = harness.compare(thunks, **how, reference="diffusers eager")
    size = f"{args.batch} x {args.size} x {args.size}"
    print(harness.markdown(rows, f"{name}: training step, {size}"))
    thunks = {
        "genjax": our_samples(model, state, args),
        "genjax, network calls alone": our_calls(name, state, args),
        "diffusers eager": torch_samples(network.eval(), args, compiled=False),
    }
    if args.compile:
        thunks["diffusers torch.compile"] = torch_samples(network.eval(), args, compiled=True)
    rows = harness.compare(thunks, **how, reference="diffusers eager")
    print(harness.markdown(rows, f"{name}: {STEPS} steps of DDIM, {size}"))
    sampler, calls = (next(r for r in rows if r.name == n) for n in list(thunks)[:2])
    print(f"The sampler takes {sampler.best_ms / calls.best_ms - 1:+.1%} over its network calls.")
    print(f"Compilation of the step: {seconds:.1f} s.")
    again = built(name, args, remat=True)
    _, _, saved = our_step(*again)
    sizes = [c.memory_analysis().temp_size_in_bytes / 2**20 for c in (compiled, saved)]
    print(f"Temporary memory of the step: {sizes[0]:.0f} MiB, with rematerialisation {sizes[1]:.0f} MiB.\n")


def main() -> None:
    """Check that both sides compute the same functions, time them and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"width": 32, "size": 32, "batch": 16, "rounds": 5, "burst": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compile", action="store_true", help="time torch.compile too")
    args = parser.parse_args()
    harness.torch_threads()
    for name in ("unet", "dit"):
        compare(name, args)


if __name__ == "__main__":
    main()
