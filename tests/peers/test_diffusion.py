"""Our samplers against diffusers' schedulers, step for step from the same outputs of a network."""

from __future__ import annotations

import warnings

import jax
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
    compare(sampling.METHODS["ddpm"](variance), schedules.chain(schedule, T), prediction, *run, clip=1.0)


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
    compare(sampling.METHODS["ddim"](eta), schedules.chain("linear", T), prediction, *run, clip=1.0)


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
    compare(
        sampling.METHODS["ddim"](),
        schedules.straight,
        "flow_velocity",
        trajectory,
        [None] * 20,
        sigmas,
        clip=None,
    )


def alpha_sigma(ratio: float) -> tuple[float, float]:
    """The variance-preserving coefficients of sigma / alpha; float64, as theirs are computed in float32."""
    return 1.0 / np.sqrt(1.0 + ratio**2), ratio / np.sqrt(1.0 + ratio**2)


def whole(method, ratios, times, x, noise):
    """Our trajectory along given sigma / alpha, with the memory of a multistep method."""
    count = len(ratios) - 1
    points = [
        sampling.Point(jnp.float32(t), *map(jnp.float32, alpha_sigma(r)), jnp.int32(n), jnp.int32(count - n))
        for n, (t, r) in enumerate(zip(times, ratios, strict=True))
    ]
    places = {float(p.t): p for p in points}

    def estimate(x, t):
        return to_data("noise", network(x, t), x, places[float(t)].at)

    memory = method.start(x)
    found = [x]
    with jax.disable_jit():
        for n in range(count):
            x, memory = method.step(
                estimate, x, memory, *points[n : n + 2], lambda n=n: jnp.asarray(noise[n])
            )
            found.append(x)
    return found


def trajectory(scheduler, steps, *, scaled):
    """Theirs: (x after each step in variance-preserving scale, sigma / alpha, noise)."""
    scheduler.set_timesteps(steps)
    x = torch.tensor(np.random.default_rng(0).normal(size=SHAPE), dtype=torch.float32)
    if scaled:
        x = x * scheduler.init_noise_sigma
    ratios = scheduler.sigmas.numpy().astype(np.float64)
    found = []
    noise = []
    for i, t in enumerate(scheduler.timesteps):
        inner = x * alpha_sigma(float(scheduler.sigmas[i]))[0] if scaled else x
        found.append(np.asarray(inner))
        generator = torch.Generator().manual_seed(i)
        output = network(inner, (float(t) + 1) / T)
        # The schedulers that draw no noise have no generator.
        try:
            x = scheduler.step(output, t, x, generator=generator).prev_sample
        except TypeError:
            x = scheduler.step(output, t, x).prev_sample
        noise.append(torch.randn(SHAPE, generator=torch.Generator().manual_seed(i)).numpy())
    found.append(np.asarray(x * alpha_sigma(ratios[-1])[0] if scaled else x))
    return found, ratios, noise


SOLVERS = {
    "euler": (lambda: schedulers.EulerDiscreteScheduler(T), {}, True),
    "euler_ancestral": (lambda: schedulers.EulerAncestralDiscreteScheduler(T), {}, True),
    "dpm_solver": (lambda: schedulers.DPMSolverMultistepScheduler(T, solver_order=2), {"order": 2}, False),
    "dpm_solver_sde": (
        lambda: schedulers.DPMSolverMultistepScheduler(T, algorithm_type="sde-dpmsolver++"),
        {"order": 2},
        False,
    ),
    "deis": (lambda: schedulers.DEISMultistepScheduler(T, solver_order=3), {"order": 3}, False),
    "deis 2": (lambda: schedulers.DEISMultistepScheduler(T, solver_order=2), {"order": 2}, False),
    "unipc": (lambda: schedulers.UniPCMultistepScheduler(T, solver_order=2), {"order": 2}, False),
    "unipc 3": (lambda: schedulers.UniPCMultistepScheduler(T, solver_order=3), {"order": 3}, False),
    "lms": (lambda: schedulers.LMSDiscreteScheduler(T), {"order": 4}, True),
}


@pytest.mark.parametrize("name", sorted(SOLVERS))
@pytest.mark.parametrize("steps", [10, 20])
def test_trajectories_are_diffusers(name, steps):
    make, options, scaled = SOLVERS[name]
    theirs, ratios, noise = trajectory(make(), steps, scaled=scaled)
    method = sampling.METHODS[name.split()[0]](**options)
    scheduler = make()
    scheduler.set_timesteps(steps)
    times = np.append((scheduler.timesteps.numpy().astype(np.float64) + 1) / T, 0.0)
    ours = whole(method, ratios, times, jnp.asarray(theirs[0]), noise)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()), rtol=0)


def test_heuns_trajectory_is_diffusers():
    scheduler = schedulers.HeunDiscreteScheduler(T)
    scheduler.set_timesteps(20)
    stamps = scheduler.timesteps.numpy().astype(np.float64)
    sigmas = scheduler.sigmas.numpy().astype(np.float64)
    x = torch.tensor(np.random.default_rng(0).normal(size=SHAPE), dtype=torch.float32)
    x = x * scheduler.init_noise_sigma
    # Each step but the last has two calls: sigmas are s0, s1, s1, s2, s2, ..., 0.
    full = [np.asarray(x) * alpha_sigma(sigmas[0])[0]]
    for i, t in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[i])
        output = network(x * alpha_sigma(sigma)[0], (float(t) + 1) / T)
        x = scheduler.step(output, t, x).prev_sample
        if i % 2 == 1:
            full.append(np.asarray(x) * alpha_sigma(sigma)[0])
    full.append(np.asarray(x))
    ratios = np.append(sigmas[::2], 0.0)
    times = np.append((np.append(stamps[:1], stamps[1::2]) + 1) / T, 0.0)
    ours = whole(sampling.METHODS["heun"](), ratios[: len(times)], times, jnp.asarray(full[0]), [None] * 20)
    for a, b in zip(ours, full, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()), rtol=0)
