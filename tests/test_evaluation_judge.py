"""evaluate() and floor() on a small model and on data of known distribution."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import evaluation
from genjax.core import Aux, Element, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError, NonFiniteError, ProtocolError
from genjax.evaluation import Config, Features, Ruler, floor, table
from genjax.evaluation.judge import evaluate

CLASSES, SIDE = 3, 4


class Split:
    """Rows in memory, with the two methods of a data split that evaluation uses."""

    def __init__(self, columns: dict[str, np.ndarray]):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, indices: Any) -> dict[str, np.ndarray]:
        return {k: v[np.asarray(indices)] for k, v in self.columns.items()}

    def stream(self, order: str, batch: int, **_: Any) -> Any:
        return Stream(self, order, batch)


class Stream:
    def __init__(self, split: Split, order: str, batch: int):
        self.split, self.order, self.batch = split, order, batch

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        n, here = len(self.split), np.arange(self.batch)
        if self.order == "lanes":
            return {
                **self.split.rows((here * n // self.batch + i) % n),
                "mask": np.ones(self.batch, np.float32),
            }
        at = here + i * self.batch
        return {**self.split.rows(np.minimum(at, n - 1)), "mask": (at < n).astype(np.float32)}


class Data:
    """Images of class c: a pattern of mean 60 + 60 c with noise."""

    name, fingerprint = "stripes", "f1"

    def __init__(self, train: int = 120, held_out: int = 50):
        self.spec = Spec(
            {"image": Element((SIDE, SIDE, 1), "uint8", 256), "label": Element((), "int32", CLASSES)}, train
        )
        rng = np.random.default_rng(0)
        self.train, self.eval = (Split(self.draw(rng, n)) for n in (train, held_out))

    def draw(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        label = rng.integers(0, CLASSES, n).astype(np.int32)
        noise = rng.normal(0, 12, (n, SIDE, SIDE, 1))
        image = np.clip(60 + 60 * label[:, None, None, None] + noise, 0, 255).astype(np.uint8)
        return {"image": image, "label": label}


def _embed(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32).reshape(len(images), -1) / 255


def _classify(images: np.ndarray) -> np.ndarray:
    return np.clip(np.round((images.reshape(len(images), -1).mean(1) - 60) / 60), 0, CLASSES - 1).astype(int)


FEATURES = Features(_embed, _classify, "digest-1", "pixels")
CONFIG = Config(sets=2, batch=16, metrics=("frechet", "kid", "prdc", "accuracy", "diversity", "neighbours"))


def gaussian(noise: float = 12.0) -> Model:
    """Draws the data's own distribution (at noise 12); learns one number; exact likelihood of ln 256 a
    pixel."""

    def init(key, batch, frozen):
        return Variables(params={"model": {"shift": jnp.zeros(())}}, ema={}, frozen=frozen)

    def loss(v, batch, keys, *, step):
        x = batch["image"].astype(jnp.float32).mean((1, 2, 3)) - v.params["model"]["shift"]
        return Mean.of(x * x, batch["mask"]), Aux(v.state)

    def draw(v, key, label):
        x = 60 + 60 * label + v.params["model"]["shift"] + noise * jax.random.normal(key, (SIDE, SIDE, 1))
        return jnp.clip(x, 0, 255).astype(jnp.uint8)

    def sample(v, keys, prompt, scale=1.0):
        label = prompt.get("label", jnp.zeros(keys.shape[0], jnp.int32))
        return {"image": jax.vmap(draw, (None, 0, 0))(v, keys, label * jnp.int32(scale)), "label": label}

    def score(v, batch, keys):
        size = SIDE * SIDE * jnp.ones(keys.shape[0])
        return Mean(size * jnp.log(256.0), size), {}

    return Model(init, {"main": Phase("model", loss)}, sample=sample, likelihood=score)


def fitted(model: Model) -> Variables:
    return model.init(jax.random.key(0), Data().spec.example(2), {})


def by_name(scores: list) -> dict:
    return {s.name: s for s in scores}


def test_a_row_and_its_floor_share_every_column():
    data, model = Data(), gaussian()
    scores, samples = evaluation.evaluate(model, fitted(model), data, FEATURES, CONFIG)
    real = floor(data, FEATURES, CONFIG)
    assert samples["image"].shape == (100, SIDE, SIDE, 1)
    assert np.bincount(samples["label"]).tolist() == [34, 33, 33]
    columns = {c.name: c for c in table({"real": real, "model": scores})}
    got = {"frechet", "kid", "precision", "recall", "density", "coverage", "conditional_accuracy"}
    assert got <= {n for n, c in columns.items() if len(c.scores) == 2}
    # The model draws from the data's distribution: it cannot be told from the floor.
    assert columns["conditional_accuracy"].scores["model"].value > 0.95
    kid = columns["kid"].scores["model"]
    assert kid.low is not None
    assert kid.high is not None
    assert kid.low - 0.01 < 0 < kid.high + 0.01
    ratio = columns["frechet"].scores["model"].value / columns["frechet"].scores["real"].value
    assert 0.5 < ratio < 2
    assert 0.3 < columns["memorisation"].scores["model"].value < 0.7
    assert "real" not in columns["memorisation"].scores


def test_metrics_see_a_worse_model_and_a_copier():
    data = Data()
    ruler = Ruler(data, FEATURES, CONFIG)
    good, bad = (
        by_name(evaluate(m, fitted(m), data, FEATURES, CONFIG, ruler=ruler)[0])
        for m in (gaussian(), gaussian(50.0))
    )
    assert bad["frechet"].value > 3 * good["frechet"].value
    assert bad["kid"].value > good["kid"].value
    assert bad["memorisation"].value < 0.05  # far from everything real
    rows = data.train.rows(np.arange(50))
    copied = by_name(ruler.measure([rows, data.train.rows(np.arange(50, 100))], {}))
    assert copied["memorisation"].value > 0.95
    assert copied["authenticity"].value == 0
    assert copied["nearest_train"].value == 0


@pytest.mark.parametrize("batch", [7, 100])
def test_scores_do_not_depend_on_the_batch(batch: int):
    data, model = Data(), gaussian()
    config = Config(**{**vars(CONFIG), "batch": batch})
    one, x = evaluate(model, fitted(model), data, FEATURES, CONFIG)
    other, y = evaluate(model, fitted(model), data, FEATURES, config)
    np.testing.assert_array_equal(x["image"], y["image"])
    assert [(s.name, s.value, s.low, s.high) for s in one] == [
        (s.name, s.value, s.low, s.high) for s in other
    ]


def test_another_protocol_is_refused_and_knobs_are_not():
    data, model = Data(), gaussian()
    config = Config(sets=1, batch=16, metrics=("frechet",))
    base = evaluate(model, fitted(model), data, FEATURES, config)[0]
    knobs = evaluate(model, fitted(model), data, FEATURES, config, {"scale": 1.0})[0]
    assert knobs[0].detail["knob.scale"] == 1.0
    assert len(table({"a": base, "b": knobs})[0].scores) == 2
    smaller = evaluate(model, fitted(model), data, FEATURES, Config(**{**vars(config), "samples": 40}))[0]
    with pytest.raises(ProtocolError, match=r"'samples'.*50.*40"):
        table({"a": base, "b": smaller})
    other = evaluate(model, fitted(model), data, FEATURES._replace(digest="digest-2"), config)[0]
    with pytest.raises(ProtocolError, match=r"digest-1.*digest-2"):
        table({"a": base, "b": other})


def test_likelihood_cost_and_speed():
    data, model = Data(), gaussian()
    config = Config(batch=16, metrics=("likelihood", "cost", "speed"), speed_batches=(1, 4), repeats=2)
    scores, samples = evaluate(model, fitted(model), data, FEATURES, config, train_seconds=2.5)
    assert samples == {}
    s = by_name(scores)
    assert s["bits_per_dim/exact"].value == pytest.approx(8.0, abs=1e-6)
    assert s["bits_per_dim/exact"].protocol["kind"] == "exact"
    assert s["parameters"].value == 1
    assert s["train_seconds"].value == 2.5
    assert s["train_flops"].value > SIDE * SIDE
    assert s["sample_flops"].value > SIDE * SIDE
    assert s["samples_per_second_4"].value > 0
    assert s["sample_memory_4"].value >= 4 * SIDE * SIDE


def test_the_average_is_used_and_finish_runs_once():
    data, model = Data(), gaussian()

    def finish(v):
        return v.replace(params={"model": {"shift": v.params["model"]["shift"] + 1}})

    average = {"model": {"shift": jnp.asarray(100.0)}}
    variables = fitted(model).replace(ema={"eval": average})
    config = Config(sets=1, batch=16, metrics=("frechet",))
    scores, samples = evaluate(model.replace(finish=finish), variables, data, FEATURES, config)
    dark = samples["image"][samples["label"] == 0]
    assert dark.mean() == pytest.approx(161, abs=2)
    assert scores[0].detail["weights"] == "eval"


def test_a_model_without_sampler_and_sets_that_cannot_be_drawn():
    data, model = Data(), gaussian()
    scores, samples = evaluate(model.replace(sample=None), fitted(model), data, FEATURES, CONFIG)
    assert (scores, samples) == ([], {})
    with pytest.raises(ConfigError, match="as many held-out"):
        floor(data, FEATURES, Config(samples=60))
    with pytest.raises(ConfigError, match="too few for k=5"):
        Ruler(Data(train=5), FEATURES, Config())


def test_points_report_modes_without_being_told_labels():
    rng = np.random.default_rng(0)
    centres = np.asarray([[0, 0], [4, 0], [0, 4], [4, 4]], np.float32)
    data = Data()
    data.spec = Spec({"point": Element((2,), "float32"), "label": Element((), "int32", 4)}, 400)

    def draw(n):
        label = rng.integers(0, 4, n).astype(np.int32)
        return {"point": (centres[label] + rng.normal(0, 0.1, (n, 2))).astype(np.float32), "label": label}

    data.train, data.eval = Split(draw(400)), Split(draw(60))

    def sample(v, keys, prompt):
        assert prompt == {}
        side = jax.vmap(lambda k: jax.random.bernoulli(k))(keys)  # modes 0 and 3 only
        noise = jax.vmap(lambda k: 0.1 * jax.random.normal(jax.random.fold_in(k, 1), (2,)))(keys)
        return {"point": 4.0 * side[:, None].astype(jnp.float32) + noise}

    model = gaussian().replace(sample=sample)
    config = Config(sets=1, metrics=("frechet", "modes"))
    s = by_name(evaluate(model, fitted(model), data, None, config)[0])
    real = by_name(floor(data, None, config))
    assert (s["modes_found"].value, real["modes_found"].value) == (2, 4)
    assert s["high_quality"].value > 0.9
    assert s["mode_divergence"].value > 0.6 > 0.1 > real["mode_divergence"].value
    assert s["frechet"].protocol["features"] == "raw values"
    diverged = model.replace(sample=lambda v, keys, prompt: {"point": jnp.full((len(keys), 2), jnp.nan)})
    with pytest.raises(NonFiniteError, match="sample 0"):
        evaluate(diverged, fitted(model), data, None, config)
