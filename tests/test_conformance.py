"""Every config at its smoke size, found by discovery: a new model inherits all of this by having a config."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sampling_properties as sampling
from properties import Taken, assert_resumes, assert_same_steps

from genjax import kinds, settings
from genjax.core import row_keys
from genjax.data.rows import Zipped
from genjax.errors import ConfigError
from genjax.training import Mesh, loop, optimizers, step
from genjax.training.engine import compilations
from genjax.training.trees import named
from genjax.workflows import assemble, planned, train

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
    str(p.relative_to(ROOT / "configs"))[:-3]
    for p in (ROOT / "configs").rglob("*.py")
    if p.parent.name != "compare"
)
OUTSIDE = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests/outside/configs").glob("*.py"))
"""Configs of models outside the package."""
EVERY = [*CONFIGS, *OUTSIDE]
EMBEDDED = {"tfds:tiny_shakespeare": "pydoc", "tfds:mnist": "mnist5k"}
"""Data that must be downloaded, and embedded data of the same form that its smoke configs read."""


def every(names: list[str]) -> pytest.MarkDecorator:
    """One group a config, so that a worker loads and compiles it once."""
    marked = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]
    return pytest.mark.parametrize("name", marked)


def path_of(name: str) -> str:
    return str(ROOT / name) if name in OUTSIDE else name


def in_order() -> list[tuple[str, dict[str, Any]]]:
    """Every config at its smoke size; digits first, which read the fastest."""
    names = sorted(EVERY, key=lambda n: (not n.startswith("digits/"), n))
    return [(name, settings.load(f"{path_of(name)}:smoke")) for name in names]


def first_of_each(difference: Callable[[dict[str, Any]], object]) -> list[str]:
    """The first config of every value of `difference`."""
    found: dict[object, str] = {}
    for name, config in in_order():
        found.setdefault(difference(config), name)
    return sorted(found.values())


def architecture(config: dict[str, Any]) -> tuple[str, ...]:
    """The model, and of a prior over codes the prior: it is another model for every prior."""
    model = config["model"]
    return model["name"], (model.get("prior") or {}).get("name", "")


def form(config: dict[str, Any]) -> tuple[str, str]:
    """The form of the data, of which each source has its own."""
    data = config["data"]
    return "digits" if data["name"] == "mnist5k" else data["name"], str(data.get("pack", False))


ARCHITECTURES = first_of_each(architecture)
"""Engines and resumption depend on nothing else."""
PROGRAMS = sorted({*ARCHITECTURES, *first_of_each(form)})
"""Every architecture on one form of data, and every form with one architecture."""


def resolve(name: str, *overrides: str) -> settings.Settings:
    quiet = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")
    return settings.complete(settings.load(f"{path_of(name)}:smoke", (*quiet, *overrides)))


@functools.cache
def folder() -> Path:
    """The folder of all runs of this worker, so that they share their stages."""
    return Path(tempfile.mkdtemp())


@functools.lru_cache(maxsize=2)
def prepared(name: str) -> assemble.Experiment:
    s = resolve(name, "data.batch=8", "data.limit=200")
    return train.prepare(s, folder() / "prepared", devices=jax.devices()[:1])


@functools.lru_cache(maxsize=2)
def single(name: str) -> Taken:
    """Two steps of a prepared config on one device; the tests of a config share its engine."""
    e = prepared(name)
    return Taken(e.model, e.dataset, config(), batch=8, steps=2, devices=jax.devices()[:1], frozen=e.frozen)


@pytest.fixture(scope="module")
def trained():
    """name -> its smoke run, trained once for the module."""

    @functools.cache
    def get(name: str) -> assemble.Trained:
        directory = folder() / name.replace("/", "-")
        train.train(resolve(name), directory, devices=jax.devices()[:1])
        return assemble.restore(directory)

    return get


def test_there_are_configs_of_every_architecture():
    assert {settings.load(n)["model"]["name"] for n in CONFIGS} == set(settings.models())


def test_every_form_of_data_is_covered():
    forms: set[str] = set()
    for name in EVERY:
        s = resolve(name)
        dataset = assemble.Datasets().load(s.data)
        forms |= {str(dataset.spec[target].kind) for target in dataset.spec.targets}
        forms |= {"packed"} if s.data.pack else set()
        forms |= {"pairs"} if dataset.spec.paired else set()
        forms |= {"zipped"} if isinstance(dataset.train.source, Zipped) else set()
        forms |= {"staged"} if s.stages else set()
    shown = set(kinds.names()) - {"label", "caption"}
    assert forms >= shown | {"packed", "pairs", "zipped", "staged"}


@every(EVERY)
def test_the_full_config_resolves_and_an_unknown_key_is_named(name: str):
    raw = settings.load(path_of(name))
    small = settings.complete(settings.load(f"{path_of(name)}:smoke"))
    assert settings.complete(raw).train.steps > small.train.steps
    full = settings.complete(raw).data.name
    assert EMBEDDED.get(full, full) == small.data.name, "the smoke size reads data of another form"
    # The schedule of every config fits into a short trial run.
    short = settings.complete(settings.load(path_of(name), ("train.steps=20",)))
    for player in ("any", *short.optimizers):
        optimizers.learning_rate(short.optimizer_of(player), 20)
    raw["model"] = {**raw["model"], "wdith": 3}
    with pytest.raises(ConfigError, match=r"model\.wdith"):
        settings.complete(raw)


@every([name for name in EVERY if name not in PROGRAMS])
def test_what_differs_only_in_options_would_train(name: str):
    """All that is checked before a run writes anything; the loss and the sampler are traced."""
    e = planned.experiment(resolve(name), assemble.Datasets())
    loss = jax.eval_shape(
        lambda v, b: [p.objective(v, b, keys_of(b), step=jnp.int32(0)) for p in e.model.phases.values()],
        assemble.shapes(e),
        with_carry(e, e.dataset.train.stream(batch=4)[0]),
    )
    assert len(loss) == len(e.model.phases)


def keys_of(batch: dict[str, Any]) -> jax.Array:
    return row_keys(jax.random.key(0), 0, jnp.arange(batch["mask"].shape[0]))


def with_carry(e: assemble.Experiment, batch: dict[str, Any]) -> dict[str, Any]:
    rows = {k: jnp.asarray(v) for k, v in batch.items()}
    return {**rows, "carry": e.model.carry(rows)}


@every(PROGRAMS)
def test_it_trains_and_is_restored(name: str, trained):
    t = trained(name)
    assert t.step == t.experiment.settings.train.steps
    assert (t.directory / "dataset.json").exists()
    values = [v for k, v in t.record["metrics"].items() if k.split("@")[0].endswith("loss")]
    assert values
    assert np.isfinite(values).all()


@every(ARCHITECTURES)
def test_training_again_changes_nothing(name: str, trained):
    t = trained(name)
    before = (t.directory / "metrics.jsonl").read_text()
    train.train(t.experiment.settings, t.directory, devices=jax.devices()[:1])
    assert (t.directory / "metrics.jsonl").read_text() == before


@every(PROGRAMS)
def test_its_sampler(name: str, trained):
    """Form, dependence on key and prompt, rows alone, one compilation: see sampling_properties.py."""
    t = trained(name)
    e = t.experiment
    if e.model.sample is None:
        assert e.model.predict is not None or e.model.codec is not None
        return
    given = e.settings.sample
    variables = t.variables.at(e.average)
    draw = sampling.drawing(e.model, e.dataset, variables, given)
    sampling.assert_compiles_once(draw)
    sampling.assert_form(e.dataset, draw(0))
    sampling.assert_rows_alone(
        draw, sampling.drawing(e.model, e.dataset, variables, given, batch=2), e.dataset
    )
    if e.model.decoder is not None:
        sampling.assert_continues(draw, e.dataset)
    visible = sampling.drawing(e.model, e.dataset, sampling.perturbed(variables), given)
    sampling.assert_depends_on_key(visible, e.dataset, e.model.deterministic)
    sampling.assert_depends_on_prompt(visible, e.dataset)
    sampling.assert_refuses_nan(lambda v: sampling.drawing(e.model, e.dataset, v, given)(0), variables)


@every(PROGRAMS)
def test_likelihoods_are_of_rows_alone_and_masked(name: str, trained):
    t = trained(name)
    model = t.experiment.model
    if model.likelihood is None:
        return
    variables = model.finish(t.variables)
    rows = {k: jnp.asarray(v) for k, v in t.experiment.dataset.eval.stream("once", batch=4)[0].items()}
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


@every(ARCHITECTURES)
def test_no_program_is_compiled_after_the_first_cycle_of_phases(name: str):
    e = prepared(name)
    cycle = max(phase.interval for phase in e.model.phases.values())
    stream = e.dataset.train.stream(batch=8)
    engine = single(name).engine
    taken = Taken(e.model, e.dataset, config(), batch=8, steps=cycle, engine=engine)
    state, before = taken.state, compilations()
    for n in range(cycle, 2 * cycle):
        phases = (step.due(e.model, n),)
        state, packed = taken.engine.step(state, taken.engine.put([stream[n]]), phases)
    jax.block_until_ready(packed)
    assert compilations() == before


@every(ARCHITECTURES)
def test_a_phase_moves_the_parameters_of_its_own_player_alone(name: str):
    """One whole step of each phase by itself: all other players' parameters keep their bits."""
    e = prepared(name)
    stream = e.dataset.train.stream(batch=8)
    for phase_name, phase in e.model.phases.items():
        taken = Taken(e.model, e.dataset, config(), batch=8, steps=0, engine=single(name).engine)
        before = {p: np.array(x) for p, x in named(taken.state.variables.params).items()}
        state, _ = taken.engine.step(taken.state, taken.engine.put([stream[0]]), ((phase_name,),))
        after = {p: np.array(x) for p, x in named(state.variables.params).items()}
        moved = {p.split("/")[0] for p in before if before[p].tobytes() != after[p].tobytes()}
        learns = any(p.split("/")[0] == phase.player for p in before)
        assert moved == ({phase.player} if learns else set())


def config(**changes):
    quiet = {"tensorboard": False, "progress": False, "compilation_cache": False}
    return dataclasses.replace(loop.Config(), **quiet, **changes)


@every(ARCHITECTURES)
def test_engines_meshes_and_micro_batches_take_the_same_steps(name: str):
    e = prepared(name)
    take = functools.partial(Taken, e.model, e.dataset, batch=8, steps=2, frozen=e.frozen)
    one = single(name)
    assert_same_steps(one, take(config(engine="pmap")))
    rules = ((r".*kernel", (None, "fsdp")), (r".*", ()))
    mesh = Mesh(data=2, fsdp=2, tensor=2)
    rowwise = all(phase.rowwise for phase in e.model.phases.values())
    how = {"mesh": mesh, "sharding": rules if shardable(e) else (), "accumulate": 2 if rowwise else 1}
    assert_same_steps(one, take(config(**how)))


def shardable(e: assemble.Experiment) -> bool:
    """Every kernel's last axis can be halved."""
    variables = jax.eval_shape(
        lambda key: e.model.init(key, e.dataset.spec.example(8), e.frozen), jax.random.key(0)
    )
    paths = jax.tree_util.tree_leaves_with_path((variables.params, e.frozen))
    return all(x.shape[-1] % 2 == 0 for p, x in paths if "kernel" in jax.tree_util.keystr(p))


@every(ARCHITECTURES)
def test_killed_and_resumed_equals_uninterrupted(name: str, tmp_path: Path):
    s = resolve(name, "data.batch=8", "data.limit=30", "data.order=shuffled")
    e = train.prepare(s, folder() / "killed", devices=jax.devices()[:1])
    accumulate = 2 if all(phase.rowwise for phase in e.model.phases.values()) else 1
    schedule = {"steps": 9, "log_every": 2, "eval_every": 4, "checkpoint_every": 3, "sample_every": 1}
    c = dataclasses.replace(s.train, **schedule, accumulate=accumulate)
    players = {p: s.optimizer_of(p) for p in e.model.players}

    def run(directory: Path, hooks: loop.Hooks) -> None:
        where = {"directory": directory, "hooks": hooks, "devices": jax.devices()[:1], "frozen": e.frozen}
        loop.train(e.model, e.dataset, c, players, batch=8, seed=1, **where)

    # 30 rows in batches of 8: an epoch ends inside the fourth batch.
    assert_resumes(run, tmp_path, kills=(5,))
