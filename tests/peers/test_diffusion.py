"""Our samplers against diffusers' schedulers, step for step from the same outputs of a network."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from genjax.functional import schedules
from genjax.functional.diffusion import diffuse, target, to_data
from genjax.sampling import diffusion as sampling

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of importing diffusers
    from diffusers import schedulers

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]
T, SHAPE = 1000, (3, 4, 4, 2)
KINDS = {"noise": "epsilon", "data": "sample", "velocity": "v_prediction"}
BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def network(x, t):
    """Something that depends on x and t, of the size of an output; the same in numpy and in jax."""
    return 0.8 * x - 0.3 * t


def theirs(scheduler, prediction, steps, **knobs):
    """Their whole trajectory, and the noise that each of their steps drew."""
    scheduler.set_timesteps(steps)
    x = torch.tensor(np.random.default_rng(0).normal(size=SHAPE), dtype=torch.float32)
    trajectory = [x]
    for i, t in enumerate(scheduler.timesteps):
        generator = torch.Generator().manual_seed(i)
        x = scheduler.step(network(x, (int(t) + 1) / T), t, x, generator=generator, **knobs).prev_sample
        trajectory.append(x)
    noise = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(i)).numpy() for i in range(steps)]
    times = np.append((scheduler.timesteps.numpy() + 1) / T, 0).astype(np.float32)
    return [np.asarray(x) for x in trajectory], noise, times


def compare(method, path, prediction, trajectory, noise, times, clip):
    for n, before in enumerate(trajectory[:-1]):
        points = [sampling.Point(t, *path(t)) for t in jnp.asarray(times[n : n + 2])]

        def estimate(x, t, at=points[0].at):
            return sampling.threshold(to_data(prediction, network(x, t), x, at), clip)

        draw = lambda n=n: jnp.asarray(noise[n])
        x, _ = method.step(estimate, jnp.asarray(before), {}, *points, draw)
        np.testing.assert_allclose(x, trajectory[n + 1], atol=1e-5 * max(1.0, np.abs(before).max()), rtol=0)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("prediction", ["noise", "data", "velocity"])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_steps_are_diffusers(schedule, prediction, variance):
    scheduler = schedulers.DDPMScheduler(
        T,
        beta_schedule=BETAS[schedule],
        variance_type=f"fixed_{variance}",
        prediction_type=KINDS[prediction],
        clip_sample=True,
    )
    run = theirs(scheduler, prediction, 20)
    compare(sampling.ddpm(variance), schedules.chain(schedule, T), prediction, *run, clip=1.0)


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity"])
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_steps_are_diffusers(prediction, eta, spacing):
    scheduler = schedulers.DDIMScheduler(
        T, prediction_type=KINDS[prediction], clip_sample=True, timestep_spacing=spacing
    )
    # Where x_0 is clipped, the noise that goes with it is used, as in the authors' code.
    run = theirs(scheduler, prediction, 20, eta=eta, use_clipped_model_output=True)
    np.testing.assert_allclose(run[2], schedules.times(20, T, spacing), atol=1e-6)
    compare(sampling.ddim(eta), schedules.chain("linear", T), prediction, *run, clip=1.0)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_noising_and_targets_are_diffusers(schedule):
    scheduler = schedulers.DDPMScheduler(T, beta_schedule=BETAS[schedule])
    rng, i = np.random.default_rng(1), np.array([0, 500, 998])
    x, noise = (rng.normal(size=SHAPE).astype(np.float32) for _ in range(2))
    at = schedules.chain(schedule, T)(jnp.asarray((i + 1) / T, jnp.float32))
    tensors = torch.tensor(x), torch.tensor(noise), torch.tensor(i)
    ours = diffuse(jnp.asarray(x), jnp.asarray(noise), at)
    np.testing.assert_allclose(ours, scheduler.add_noise(*tensors), atol=1e-5)
    velocity = target("velocity", jnp.asarray(x), jnp.asarray(noise), at)
    np.testing.assert_allclose(velocity, scheduler.get_velocity(*tensors), atol=1e-5)


def test_flow_steps_are_diffusers_euler_steps():
    scheduler = schedulers.FlowMatchEulerDiscreteScheduler(T)
    scheduler.set_timesteps(20)
    sigmas = scheduler.sigmas.numpy().astype(np.float32)
    x = torch.tensor(np.random.default_rng(0).normal(size=SHAPE), dtype=torch.float32)
    trajectory = [x]
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        x = scheduler.step(network(x, float(sigma)), t, x).prev_sample
        trajectory.append(x)
    trajectory = [np.asarray(x) for x in trajectory]
    compare(sampling.ddim(), schedules.straight, "flow_velocity", trajectory, [None] * 20, sigmas, clip=None)
