"""Learned variance and schedule, self-conditioning, autoguidance, text, and the bound without steps."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.config import build as build_config
from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.functional import continuous_bound, schedules
from genjax.functional import diffusion as gaussian
from genjax.models import diffusion
from genjax.nn import log_snr
from genjax.sampling import editing
from genjax.training import step as training

POINT = Spec({"point": Element((2,), "float32", None, "point", "target")}, rows=50)
IMAGE = Element((8, 8, 1), "uint8", 17, "image", "target")
LABEL = Element((), "int32", 3, "label", "condition")
CAPTION = {
    "caption": Element((5,), "int32", 11, "caption", "condition"),
    "caption_mask": Element((5,), "float32", None, None, "condition"),
}
STATES = {"states": Element((5, 6), "float32", None, None, "condition")}
TINY: dict[str, Any] = {
    "width": 8,
    "multipliers": (1, 2),
    "blocks": 1,
    "timesteps": 20,
    "groups": 4,
    "head": 8,
}
MLP: dict[str, Any] = {"width": 32, "blocks": 2, "timesteps": 50, "schedule": "vp", "prediction": "velocity"}


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


def images(n: int, spec: Spec, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    out: dict[str, Any] = {"mask": jnp.ones(n)}
    for name, e in spec.elements.items():
        shape = (n, *e.shape)
        if e.levels:
            out[name] = jnp.asarray(rng.integers(0, e.levels, shape), e.dtype)
        else:
            out[name] = (
                jnp.ones(shape) if name.endswith("mask") else jnp.asarray(rng.normal(size=shape), jnp.float32)
            )
    return out


def made(spec: Spec, stages: dict | None = None, **fields) -> tuple[Model, Variables]:
    model = diffusion.build(build_config(diffusion.Config, fields), spec, stages)
    batch = images(2, spec)
    variables = jax.jit(lambda k: model.init(k, batch, {}))(jax.random.key(0))
    shaken = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(2), x.shape), variables.params)
    return model, variables.replace(params=shaken)


def learned(model: Model, batches: Any, steps: int, rate: float = 3e-3) -> tuple[Variables, list[dict]]:
    optimizers = {player: optax.adam(rate) for player in model.players}
    state = training.create(model, optimizers, jax.random.key(0), batches(0))
    step = jax.jit(training.make_step(model, optimizers), static_argnames="phases")
    record = []
    for n in range(steps):
        state, metrics = step(state, {}, batches(n), jax.random.key(1), phases=tuple(model.phases))
        record.append({k: float(m.value) for k, m in metrics.items()})
    return state.variables, record


def narrow(n: int) -> dict:
    """Points of standard deviation 0.1 and 0.5: reverse steps of another variance each."""
    x = np.random.default_rng(n).normal(size=(128, 2)) * [0.1, 0.5]
    return {"point": jnp.asarray(x, jnp.float32), "mask": jnp.ones(128)}


# --- variance ------------------------------------------------------------------------------------------


def test_a_learned_variance_lies_between_both():
    path = schedules.chain("linear", 20)
    s, t = (path(jnp.float32(x)) for x in (0.5, 0.55))
    small, large = (gaussian.step_variance(s, t, v) for v in ("small", "large"))
    share = jnp.asarray([[0.0, 1.0, 0.5]])
    found = gaussian.step_variance(s, t, "learned", share)[0]
    np.testing.assert_allclose(found[:2], [small, large], rtol=1e-5)
    np.testing.assert_allclose(found[2], np.sqrt(small * large), rtol=1e-5)


def test_the_variance_learns_from_the_bound_alone():
    """Its gradient reaches the mean's parameters by the simple loss only (Nichol & Dhariwal 2021)."""
    model, variables = made(POINT, **MLP, variance="learned")
    b = narrow(0)
    of = lambda weight: (
        lambda v: (
            made(POINT, **MLP, variance="learned", variance_weight=weight)[0]
            .phases["denoise"]
            .objective(v, b, keys(128), step=jnp.int32(0))[0]
            .total
        )
    )
    slopes = [jax.grad(of(w))(variables).params["denoiser"]["mlp"]["out"]["kernel"] for w in (0.001, 1.0)]
    np.testing.assert_allclose(slopes[0][:, :2], slopes[1][:, :2], rtol=1e-3, atol=1e-4)
    assert float(jnp.abs(slopes[0][:, 2:] - slopes[1][:, 2:]).max()) > 1e-3
    drawn = model.sample(variables, keys(6), {}, steps=10, sampler="ddpm", variance="learned")  # type: ignore[misc]
    assert np.isfinite(drawn["point"]).all()


def test_a_learned_variance_improves_the_bound():
    small = {**MLP, "timesteps": 10}
    bounds = {}
    for variance in ("small", "large", "learned"):
        fields = {**small, "variance": variance} | ({"variance_weight": 0.1} if variance == "learned" else {})
        model, _ = made(POINT, **fields)
        variables, _ = learned(model, narrow, 500, 6e-3)
        nats, _ = model.likelihood(variables, narrow(9999), keys(128, 5), terms=None)  # type: ignore[misc]
        bounds[variance] = float(nats.total.sum() / nats.count.sum())
    assert bounds["learned"] < min(bounds["small"], bounds["large"]), bounds


def test_variance_learned_is_refused_where_there_is_none():
    model, variables = made(POINT, **MLP)
    with pytest.raises(ConfigError, match="variance='learned'"):
        model.sample(variables, keys(2), {}, sampler="ddpm", variance="learned", steps=2)  # type: ignore[misc]
    with pytest.raises(ConfigError, match="variance_weight"):
        build_config(diffusion.Config, {"variance_weight": 0.1})


# --- schedule and the bound without steps --------------------------------------------------------------


def test_a_learned_schedule_is_monotone_and_keeps_its_ends():
    params = log_snr.NegativeLogSNR().init(jax.random.key(3), jnp.zeros((1,)))["params"]
    t = jnp.linspace(0, 1, 101)
    alpha, sigma = log_snr.path_of(params)(t)
    gamma = -np.asarray(schedules.log_snr(alpha, sigma))
    assert (np.diff(gamma) > 0).all()
    np.testing.assert_allclose(gamma[[0, -1]], [log_snr.LOW, log_snr.HIGH], rtol=1e-4)
    np.testing.assert_allclose(alpha**2 + sigma**2, np.ones(101), rtol=1e-5)
    shifted = jax.tree.map(lambda x: x + 0.5, params)
    slopes = lambda part: jax.grad(lambda p: log_snr.path_of(part(p))(t)[1].sum())(shifted)
    inside, ends = slopes(log_snr.only_inside), slopes(log_snr.only_ends)
    assert float(inside["low"]) == float(inside["high"]) == 0.0
    assert float(jnp.abs(inside["into"]).max()) > 0
    assert all(not np.asarray(x).any() for n, x in ends.items() if n not in ("low", "high"))


@pytest.mark.parametrize("name", ["vp", "straight", "edm"])
def test_the_bound_without_steps_is_the_entropy_of_a_gaussian(name: schedules.Schedule):
    """With the exact estimate the bound is tight: E[-log p(x)] of N(0, 0.25) is its entropy."""
    path = schedules.chain(name, 1000)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4000, 1)) * 0.5, jnp.float32)
    epsilon = jax.random.normal(jax.random.key(1), x.shape)
    first, last = 0.002, 0.999

    def estimate(t: jax.Array, n: Any) -> jax.Array:
        alpha, sigma = (c[:, None] for c in path(t))
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(2), n), x.shape)
        return alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * (alpha * x + sigma * noise)

    inside = continuous_bound.integral(path, x, estimate, keys(4000), (first, last), 64)
    decoded = continuous_bound.decoder_term(path, x, x, epsilon, first, None)
    total = continuous_bound.prior_term(path, x, last) - decoded + inside
    want = 0.5 * np.log(2 * np.pi * np.e * 0.25)
    assert abs(float(total.mean()) - want) < 0.06, float(total.mean())
    # The weight of a time in training is that of the integral.
    t = jnp.asarray(np.random.default_rng(3).uniform(first, last, 4000), jnp.float32)
    terms = continuous_bound.error_term(path, x, estimate(t, 99), t) * (last - first)
    assert (
        abs(float(terms.mean()) - float(inside.mean()))
        < 0.1 * float(inside.mean()) + 5 * float(terms.std()) / 63
    )


def test_a_learned_schedule_lowers_the_bound_and_both_players_learn():
    fields = {**MLP, "schedule": "learned", "prediction": "noise", "weighting": "bound"}
    model, variables = made(POINT, **fields)
    assert model.players == ("denoiser", "schedule")
    b = narrow(0)
    slopes = jax.grad(
        lambda v: model.phases["schedule"].objective(v, b, keys(128), step=jnp.int32(0))[0].total
    )(variables)
    assert all(float(jnp.abs(x).max()) > 0 for x in jax.tree.leaves(slopes.params["schedule"]))
    found, record = learned(model, narrow, 120)
    first = np.mean([r["schedule/loss"] for r in record[:20]])
    last = np.mean([r["schedule/loss"] for r in record[-20:]])
    assert last < first
    before = variables.params["schedule"]["low"]
    assert float(found.params["schedule"]["low"]) != float(before)
    for method in ("bound", "continuous"):
        nats, _ = model.likelihood(found, narrow(77), keys(128), method=method)  # type: ignore[misc]
        assert np.isfinite(np.asarray(nats.total)).all()
    drawn = model.sample(found, keys(64), {}, steps=20)["point"]  # type: ignore[misc]
    assert np.isfinite(drawn).all()
    with pytest.raises(ConfigError, match="spacing='karras'"):
        model.sample(found, keys(2), {}, steps=4, spacing="karras")  # type: ignore[misc]
    with pytest.raises(ConfigError, match="needs 'bound'"):
        build_config(diffusion.Config, {"schedule": "learned"})


# --- self-conditioning ---------------------------------------------------------------------------------


def test_a_self_conditioned_network_reads_its_last_estimate():
    model, variables = made(POINT, **MLP, self_condition=True)
    denoiser = model.denoiser
    assert denoiser is not None
    assert denoiser.remembers
    x = jax.random.normal(jax.random.key(0), (4, 2))
    t = jnp.full(4, 0.5)
    without = denoiser.denoise(variables, x, t, {})
    np.testing.assert_array_equal(without, denoiser.denoise(variables, x, t, {}, jnp.zeros_like(x)))
    assert float(jnp.abs(denoiser.denoise(variables, x, t, {}, without) - without).max()) > 1e-4
    # Two steps of DDIM by hand.
    times = model.denoiser.times(2, None)  # type: ignore[union-attr,misc]
    drawn = model.sample(variables, keys(4), {}, steps=2)["point"]  # type: ignore[misc]
    path = denoiser.path(variables)
    x = path(jnp.float32(times[0]))[1] * jax.vmap(
        lambda k: jax.random.normal(jax.random.fold_in(k, 0), (2,))
    )(keys(4))
    before = jnp.zeros_like(x)
    for now, then in itertools.pairwise(times):
        before = denoiser.denoise(variables, x, jnp.full(4, now), {}, before)
        at, to = path(jnp.float32(now)), path(jnp.float32(then))
        x = to[0] * before + to[1] * gaussian.to_noise(before, x, at)
    np.testing.assert_allclose(drawn, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", ["heun", "dpm_solver", "lms", "ddpm"])
def test_every_kind_of_sampler_remembers(sampler: str):
    model, variables = made(POINT, **MLP, self_condition=True)
    drawn = model.sample(variables, keys(4), {}, steps=5, sampler=sampler)["point"]  # type: ignore[misc]
    assert np.isfinite(drawn).all()
    # Without memory the samples are others.
    forgetful = diffusion.sampling.sample(
        model.denoiser._replace(remembers=False),  # type: ignore[union-attr]
        variables,
        keys(4),
        {},
        model.denoiser.times(5, None),  # type: ignore[union-attr,misc]
        shape=(2,),
        sampler=sampler,
    )
    assert float(np.abs(drawn - forgetful).max()) > 1e-4


def test_memory_goes_with_a_learned_variance_and_with_edits():
    model, variables = made(POINT, **MLP, self_condition=True, variance="learned")
    draw = lambda **how: model.sample(variables, keys(4), {}, steps=5, **how)["point"]  # type: ignore[misc]
    assert np.isfinite(draw(sampler="ddpm", variance="learned")).all()
    steer = lambda method, path: editing.steered(method, path, lambda x: -jnp.square(x - 3.0).sum(1), 1.0)
    how = {"shape": (2,), "sampler": "ddim", "change": steer}
    times = model.denoiser.times(5, None)  # type: ignore[union-attr,misc]
    led = diffusion.sampling.sample(model.denoiser, variables, keys(4), {}, times, **how)  # type: ignore[arg-type]
    assert float(jnp.square(led - 3.0).sum()) < float(jnp.square(draw() - 3.0).sum())


# --- autoguidance --------------------------------------------------------------------------------------


def test_guidance_leads_away_from_the_guide():
    guide, weak = made(POINT, **{**MLP, "prediction": "data"})
    model = diffusion.build(build_config(diffusion.Config, {**MLP, "guide": "weak"}), POINT, {"weak": guide})
    variables = model.init(jax.random.key(1), images(2, POINT), {"weak": weak})
    draw = lambda scale: np.asarray(model.sample(variables, keys(8), {}, steps=1, guidance=scale)["point"])  # type: ignore[misc]
    own, other = draw(1.0), draw(0.0)
    np.testing.assert_allclose(draw(3.0), other + 3 * (own - other), rtol=1e-3, atol=1e-3)
    # At scale 0 the samples are the guide's own.
    want = guide.sample(weak, keys(8), {}, steps=1)["point"]  # type: ignore[misc]
    np.testing.assert_allclose(other, want, rtol=1e-3, atol=1e-3)
    remembering = diffusion.build(
        build_config(diffusion.Config, {**MLP, "guide": "weak", "self_condition": True}),
        POINT,
        {"weak": guide},
    )
    other_variables = remembering.init(jax.random.key(1), images(2, POINT), {"weak": weak})
    for scale in (0.0, 2.0):
        found = remembering.sample(other_variables, keys(3), {}, steps=2, guidance=scale)  # type: ignore[misc]
        assert np.isfinite(found["point"]).all()
    slopes = jax.grad(
        lambda v: model.phases["denoise"].objective(v, narrow(0), keys(128), step=jnp.int32(0))[0].total
    )(variables)
    assert all(not np.asarray(x).any() for x in jax.tree.leaves(slopes.frozen))
    with pytest.raises(ConfigError, match=r"stages\.weak"):
        diffusion.build(build_config(diffusion.Config, {**MLP, "guide": "weak"}), POINT, {})


# --- networks and text ---------------------------------------------------------------------------------

NETWORKS = {
    "ldm_unet": {**TINY, "attention": (8,)},
    "edm2_unet": {k: v for k, v in TINY.items() if k != "groups"} | {"attention": (4,)},
    "transformer": {"width": 16, "blocks": 1, "head": 8, "timesteps": 20, "norm": "layer", "biases": True},
}


@pytest.mark.parametrize("text", ["none", "tokens", "states"])
@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_every_network_reads_its_conditions(network: str, text: str):
    if text != "none" and network == "edm2_unet":
        with pytest.raises(ConfigError, match=r"model\.text"):
            made(Spec({"image": IMAGE, **CAPTION}, rows=9), network=network, **NETWORKS[network], text=True)
        return
    extra = {"none": {}, "tokens": CAPTION, "states": STATES}[text]
    spec = Spec({"image": IMAGE, "label": LABEL, **extra}, rows=9)
    fields = {**NETWORKS[network], "network": network} | ({"text": True, "text_layers": 1} if extra else {})
    model, variables = made(spec, **fields)
    b = images(4, spec)
    loss = lambda v: model.phases["denoise"].objective(v, b, keys(4), step=jnp.int32(0))[0].total
    for path, g in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(variables)):
        assert np.isfinite(np.asarray(g)).all(), path
    given = {n: b[n] for n in spec.conditions}
    draw = lambda **how: np.asarray(
        model.denoiser.denoise(variables, jnp.ones((4, 8, 8, 1)), jnp.full(4, 0.5), how)  # type: ignore[union-attr]
    )
    whole = draw(**given)
    other = draw(**{**given, "label": (given["label"] + 1) % 3})
    assert np.abs(whole - other).max() > 1e-5
    if not extra:
        return
    name = "caption" if text == "tokens" else "states"
    changed = given[name] + (1 if text == "states" else 0)
    changed = (given[name] + 1) % 11 if text == "tokens" else changed
    assert np.abs(whole - draw(**{**given, name: changed})).max() > 1e-5
    if text == "tokens":
        # What is padding is not seen.
        mask = given["caption_mask"].at[:, 3:].set(0.0)
        cut = draw(**{**given, "caption_mask": mask})
        np.testing.assert_allclose(
            cut,
            draw(**{**given, "caption_mask": mask, name: changed.at[:, :3].set(given[name][:, :3])}),
            atol=1e-5,
        )
        # A hidden text is that of a prompt without one.
        null = model.denoiser.hidden(given)  # type: ignore[union-attr]
        np.testing.assert_allclose(draw(**null), draw(), atol=1e-5)
    sample = lambda scale: model.sample(variables, keys(4), given, steps=2, guidance=scale, clip=None)  # type: ignore[misc]
    drawn = sample(2.0)
    assert drawn["image"].shape == (4, 8, 8, 1)
    # A hidden text is the first state alone, whether the data has a mask or not: guidance leads away from it.
    whole_given = {**given, f"{name}_mask": jnp.ones((4, 5))}
    same = {k: jnp.zeros_like(x) if k.endswith("_mask") else x for k, x in whole_given.items()}
    null = model.denoiser.hidden(whole_given)  # type: ignore[union-attr]
    np.testing.assert_array_equal(null[f"{name}_mask"], same[f"{name}_mask"])
    _, read = model.denoiser.read(variables, b)  # type: ignore[union-attr,misc]
    assert f"{name}_mask" in read
    assert float(np.abs(draw(**null) - draw(**{**same, "label": null["label"]})).max()) < 1e-5
    assert set(given) <= set(drawn)


def test_text_that_is_not_there_is_refused():
    spec = Spec({"image": IMAGE, "label": LABEL}, rows=9)
    with pytest.raises(ConfigError, match=r"model\.text: the data has no text"):
        made(spec, network="transformer", **NETWORKS["transformer"], text=True)
    with pytest.raises(ConfigError, match="halved"):
        made(Spec({"image": dataclasses.replace(IMAGE, shape=(9, 9, 1))}, rows=9), network="ldm_unet", **TINY)


@functools.cache
def magnitudes() -> dict[str, float]:
    """Root mean squares of every block's output in a fresh EDM2 U-Net, for normal images."""
    from genjax.nn.edm2_unet import Block, EDM2UNet

    net = EDM2UNet(1, width=32, multipliers=(1, 2), blocks=2, attention=(8,))
    x = jax.random.normal(jax.random.key(0), (8, 16, 16, 1))
    variables = net.init(jax.random.key(1), x, jnp.full(8, 0.5))
    _, seen = net.apply(
        variables,
        x,
        jnp.full(8, 0.5),
        capture_intermediates=lambda module, name: isinstance(module, Block) and name == "__call__",
    )
    leaves = jax.tree_util.tree_leaves_with_path(seen["intermediates"])
    return {jax.tree_util.keystr(p): float(jnp.sqrt(jnp.square(x).mean())) for p, x in leaves}


def test_edm2_preserves_magnitudes():
    assert len(magnitudes()) >= 13
    for name, size in magnitudes().items():
        assert 0.6 < size < 1.5, (name, size)
