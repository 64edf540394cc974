"""Every config at its smoke size, found by discovery: a new model inherits all of this by having a config."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from genjax.evaluation.samples import prompt
from properties import Taken, assert_resumes, assert_same_steps

from genjax import run, settings
from genjax.core import row_keys
from genjax.errors import ConfigError
from genjax.training import Mesh, loop, step
from genjax.training.engine import compilations

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
    str(p.relative_to(ROOT / "configs"))[:-3]
    for p in (ROOT / "configs").rglob("*.py")
    if p.parent.name != "compare"
)


def every(names: list[str]) -> pytest.MarkDecorator:
    """One group a config, so that a worker loads and compiles it once."""
    marked = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]
    return pytest.mark.parametrize("name", marked)


@functools.cache
def one_of_each() -> list[str]:
    """The first config of every architecture (engines and resume depend on nothing else)."""
    found: dict[str, str] = {}
    for name in sorted(CONFIGS, key=lambda n: (not n.startswith("digits/"), n)):
        found.setdefault(settings.load(f"{name}:smoke")["model"]["name"], name)
    return sorted(found.values())


def resolve(name: str, *overrides: str) -> settings.Settings:
    quiet = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")
    return settings.complete(settings.load(f"{name}:smoke", (*quiet, *overrides)))


@functools.lru_cache(maxsize=2)
def prepared(name: str) -> run.Experiment:
    return run.prepare(resolve(name, "data.batch=8", "data.limit=200"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """name -> its smoke run, trained once for the module."""

    @functools.cache
    def get(name: str) -> run.Trained:
        directory = tmp_path_factory.mktemp(name.replace("/", "-"))
        run.train(resolve(name), directory, devices=jax.devices()[:1])
        return run.restore(directory)

    return get


def test_there_are_configs_of_every_architecture():
    assert {settings.load(n)["model"]["name"] for n in CONFIGS} == set(settings.models())


@every(CONFIGS)
def test_the_full_config_resolves_and_an_unknown_key_is_named(name: str):
    raw = settings.load(name)
    assert settings.complete(raw).train.steps > settings.complete(settings.load(f"{name}:smoke")).train.steps
    raw["model"] = {**raw["model"], "wdith": 3}
    with pytest.raises(ConfigError, match=r"model\.wdith"):
        settings.complete(raw)


@every(CONFIGS)
def test_it_trains_and_is_restored(name: str, trained):
    t = trained(name)
    assert t.step == t.experiment.settings.train.steps
    assert (t.directory / "dataset.json").exists()
    values = [v for k, v in t.record["metrics"].items() if k.split("@")[0].endswith("loss")]
    assert values
    assert np.isfinite(values).all()


@every(CONFIGS)
def test_training_again_goes_on_where_it_ended(name: str, trained):
    t = trained(name)
    before = (t.directory / "metrics.jsonl").read_text()
    run.train(t.experiment.settings, t.directory, devices=jax.devices()[:1])
    assert (t.directory / "metrics.jsonl").read_text() == before


@every(CONFIGS)
def test_samples_have_the_form_of_the_data(name: str, trained):
    t = trained(name)
    model, dataset = t.experiment.model, t.experiment.dataset
    if model.sample is None:
        assert model.predict is not None, "a model that cannot be sampled from predicts"
        return
    draw = run.sampler(t.experiment, t.experiment.settings.sample)
    rows = draw(t.variables.at("eval"), 6, run.labels(dataset, 6), seed=1)
    element = next(e for e in ("image", "tokens", "point") if e in dataset.spec)
    real = dataset.train.rows(np.arange(6))[element]
    assert rows[element].shape[0] == 6
    assert rows[element].dtype == real.dtype
    assert rows[element].ndim == real.ndim
    if levels := dataset.spec[element].levels:
        assert rows[element].min() >= 0
        assert rows[element].max() < levels
    assert len(np.unique(rows[element].reshape(6, -1), axis=0)) > 1, "every sample is the same"


@every(CONFIGS)
def test_a_sample_depends_on_its_own_key_alone_and_compiles_once(name: str, trained):
    t = trained(name)
    if t.experiment.model.sample is None:
        return
    draw = run.sampler(t.experiment, t.experiment.settings.sample)
    labels = run.labels(t.experiment.dataset, 4)
    together = draw(t.variables, 4, labels, seed=3, batch=4)
    before = compilations()
    again = draw(t.variables, 4, labels, seed=3, batch=4)
    assert compilations() == before
    apart = draw(t.variables, 4, labels, seed=3, batch=2)
    for key, rows in together.items():
        np.testing.assert_array_equal(rows, again[key])
        # Products are summed in another order at another batch size: a rounded level may differ.
        difference = np.abs(rows.astype(np.float64) - apart[key])
        assert (difference > (1e-4 if rows.dtype.kind == "f" else 0)).mean() < 0.02, key


@every(CONFIGS)
def test_likelihoods_are_of_rows_alone_and_masked(name: str, trained):
    t = trained(name)
    model, dataset = t.experiment.model, t.experiment.dataset
    if model.likelihood is None:
        return
    variables = model.finish(t.variables)
    rows = {k: jnp.asarray(v) for k, v in dataset.eval.stream("once", batch=4)[0].items()}
    keys = row_keys(jax.random.key(0), 0, jnp.arange(4))
    score = jax.jit(lambda b, k: model.likelihood(variables, {**b, "carry": model.carry(b)}, k)[0])
    whole = score(rows, keys)
    assert whole.total.shape == whole.count.shape == (4,)
    assert np.isfinite(np.asarray(whole.total)).all()
    assert (np.asarray(whole.count) > 0).all()
    half = score({k: v[:2] for k, v in rows.items()}, keys[:2])
    np.testing.assert_allclose(whole.total[:2], half.total, rtol=1e-5)
    masked = score({**rows, "mask": rows["mask"].at[3].set(0)}, keys)
    np.testing.assert_allclose(masked.total[:3], whole.total[:3], rtol=1e-5)


@every(one_of_each())
def test_no_program_is_compiled_after_the_first_cycle_of_plays(name: str):
    e = prepared(name)
    cycle = max(phase.interval for phase in e.model.phases.values())
    stream = e.dataset.train.stream(batch=8)
    taken = Taken(e.model, e.dataset, config(), batch=8, steps=cycle, devices=jax.devices()[:1])
    state, before = taken.state, compilations()
    for n in range(cycle, 2 * cycle):
        phases = (step.due(e.model, n),)
        state, packed = taken.engine.step(state, taken.engine.put([stream[n]]), phases)
    jax.block_until_ready(packed)
    assert compilations() == before


@every(one_of_each())
def test_a_play_moves_its_own_player_alone(name: str):
    e = prepared(name)
    batch = {k: jnp.asarray(v) for k, v in e.dataset.train.stream(batch=8)[0].items()}
    keys = row_keys(jax.random.key(1), 0, jnp.arange(8))
    variables = e.model.init(jax.random.key(0), batch, {})
    for phase in e.model.phases.values():
        if not jax.tree.leaves(variables.params[phase.player]):
            continue
        gradient = jax.jit(
            lambda v, phase=phase: step.gradient(
                phase, v, {**batch, "carry": e.model.carry(batch)}, keys, jnp.zeros((), jnp.int32)
            )[0]
        )(variables)
        chex.assert_trees_all_equal_shapes(gradient, variables.params[phase.player])
        moved = [float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient)]
        assert np.isfinite(moved).all()
        assert max(moved) > 0


def config(**changes):
    quiet = {"tensorboard": False, "progress": False, "compilation_cache": False}
    return dataclasses.replace(loop.Config(), **quiet, **changes)


@every(one_of_each())
def test_engines_meshes_and_micro_batches_take_the_same_steps(name: str):
    e = prepared(name)
    take = functools.partial(Taken, e.model, e.dataset, batch=8, steps=2)
    one = take(config(), devices=jax.devices()[:1])
    assert_same_steps(one, take(config(engine="pmap")))
    rules = ((r".*kernel", (None, "fsdp")), (r".*", ()))
    mesh = Mesh(data=2, fsdp=2, tensor=2)
    assert_same_steps(one, take(config(mesh=mesh, sharding=rules if shardable(e) else ())))
    if all(phase.rowwise for phase in e.model.phases.values()):
        assert_same_steps(one, take(config(accumulate=4), devices=jax.devices()[:1]))


def shardable(e: run.Experiment) -> bool:
    """Every kernel's last axis can be halved."""
    variables = jax.eval_shape(
        lambda key: e.model.init(key, e.dataset.spec.example(8), {}), jax.random.key(0)
    )
    paths = jax.tree_util.tree_leaves_with_path(variables.params)
    return all(x.shape[-1] % 2 == 0 for p, x in paths if "kernel" in jax.tree_util.keystr(p))


@every(one_of_each())
def test_killed_and_resumed_equals_uninterrupted(name: str, tmp_path: Path):
    s = resolve(name, "data.batch=8", "data.limit=30", "data.order=shuffled")
    e = run.prepare(s)
    accumulate = 2 if all(phase.rowwise for phase in e.model.phases.values()) else 1
    schedule = {"steps": 9, "log_every": 2, "eval_every": 4, "checkpoint_every": 3, "sample_every": 1}
    c = dataclasses.replace(s.train, **schedule, accumulate=accumulate)
    players = {p: s.optimizer_of(p) for p in run.players(e.model)}

    def train(directory: Path, hooks: loop.Hooks) -> None:
        where = {"directory": directory, "hooks": hooks, "devices": jax.devices()[:1]}
        loop.train(e.model, e.dataset, c, players, batch=8, seed=1, **where)

    # 30 rows in batches of 8: an epoch ends inside the fourth batch.
    assert_resumes(train, tmp_path, kills=(5,))


def test_the_spec_of_a_prompt_is_the_sampler_s(trained):
    """Evaluation asks for balanced labels in the form that samplers read."""
    dataset = prepared("digits/gpt").dataset
    assert prompt(dataset, np.arange(12), True)["label"].tolist() == [*range(10), 0, 1]
