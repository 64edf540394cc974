"""Print the memory of a training step of diffusion with and without rematerialisation, compiled for a TPU.

    pip install libtpu
    python -m experiments.benchmarks.remat [--topology v5e:2x2] [--batch 16] [--width 32] [--size 32]

Nothing runs: the step is compiled for one chip of the topology, which need not be there. The CPU's compiler
computes repeated expressions once and so undoes rematerialisation; that of a TPU or a GPU keeps it.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.experimental import topologies

from experiments.benchmarks import diffusion
from genjax.training import step as training


def temporary(name: str, args: argparse.Namespace, remat: bool, device: Any) -> float:
    """Return MiB of temporary memory of a step on the device."""
    model, state, batch = diffusion.built(name, args, remat=remat)
    step = training.make_step(model, {"denoiser": optax.adam(1e-4)})
    sharding = jax.sharding.SingleDeviceSharding(device)
    abstract = lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype, sharding=sharding)
    shapes = jax.tree.map(abstract, (state, batch, jax.random.key(1)))
    jitted = jax.jit(step, static_argnums=4, donate_argnums=0)
    compiled = jitted.trace(shapes[0], {}, shapes[1], shapes[2], ("denoise",)).lower().compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes / 2**20


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"width": 32, "size": 32, "batch": 16}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--topology", default="v5e:2x2")
    args = parser.parse_args()
    # libtpu asks a cloud's metadata server for what is not set here.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    device = topologies.get_topology_desc(args.topology, platform="tpu").devices[0]
    print("| | MiB | with rematerialisation |\n|---|--:|--:|")
    for name in ("unet", "dit"):
        sizes = [temporary(name, args, remat, device) for remat in (False, True)]
        print(f"| {name} | {sizes[0]:,.0f} | {sizes[1]:,.0f} |")


if __name__ == "__main__":
    main()
