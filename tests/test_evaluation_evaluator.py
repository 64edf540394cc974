"""evaluate() and floor() on a small model and on data of known distribution."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_toys import (
    CONFIG,
    FEATURES,
    SIDE,
    Data,
    Split,
    by_name,
    fitted,
    gaussian,
)

from genjax import evaluation
from genjax.core import Element, Spec
from genjax.errors import ConfigError, NonFiniteError, ProtocolError
from genjax.evaluation import Config, Context, ReferenceStatistics, floor, metrics, table
from genjax.evaluation.evaluator import evaluate


def test_a_row_and_its_floor_share_every_column():
    data = Data()
    model = gaussian()
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
    reference = ReferenceStatistics(data, FEATURES, CONFIG)
    good, bad = (
        by_name(evaluate(m, fitted(m), data, FEATURES, CONFIG, reference=reference)[0])
        for m in (gaussian(), gaussian(50.0))
    )
    assert bad["frechet"].value > 3 * good["frechet"].value
    assert bad["kid"].value > good["kid"].value
    assert bad["memorisation"].value < 0.05  # far from everything real
    rows = data.train.rows(np.arange(50))
    context = Context(
        data, FEATURES, CONFIG, model=gaussian(), variables=fitted(gaussian()), reference=reference
    )
    context.__dict__["sets"] = [rows, data.train.rows(np.arange(50, 100))]
    copied = by_name(metrics.load("neighbours").measure(context))
    assert copied["memorisation"].value > 0.95
    assert copied["authenticity"].value == 0
    assert copied["nearest_train"].value == 0


@pytest.mark.parametrize("batch", [7, 100])
def test_scores_do_not_depend_on_the_batch(batch: int):
    data = Data()
    model = gaussian()
    config = Config(**{**vars(CONFIG), "batch": batch})
    one, x = evaluate(model, fitted(model), data, FEATURES, CONFIG)
    other, y = evaluate(model, fitted(model), data, FEATURES, config)
    np.testing.assert_array_equal(x["image"], y["image"])
    assert [(s.name, s.value, s.low, s.high) for s in one] == [
        (s.name, s.value, s.low, s.high) for s in other
    ]


def test_another_protocol_is_refused_and_options_are_not():
    data = Data()
    model = gaussian()
    config = Config(sets=1, batch=16, metrics=("frechet",))
    base = evaluate(model, fitted(model), data, FEATURES, config)[0]
    options = evaluate(model, fitted(model), data, FEATURES, config, {"scale": 1.0})[0]
    assert options[0].detail["option.scale"] == 1.0
    assert len(table({"a": base, "b": options})[0].scores) == 2
    smaller = evaluate(model, fitted(model), data, FEATURES, Config(**{**vars(config), "samples": 40}))[0]
    with pytest.raises(ProtocolError, match=r"'samples'.*50.*40"):
        table({"a": base, "b": smaller})
    other = evaluate(model, fitted(model), data, FEATURES._replace(digest="digest-2"), config)[0]
    with pytest.raises(ProtocolError, match=r"digest-1.*digest-2"):
        table({"a": base, "b": other})


def test_likelihood_cost_and_speed():
    data = Data()
    model = gaussian()
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
    data = Data()
    model = gaussian()

    def finish(v):
        return v.replace(params={"model": {"shift": v.params["model"]["shift"] + 1}})

    average = {"model": {"shift": jnp.asarray(100.0)}}
    variables = fitted(model).replace(ema={"eval": average})
    config = Config(sets=1, batch=16, metrics=("frechet",))
    scores, samples = evaluate(model.replace(finish=finish), variables, data, FEATURES, config)
    dark = samples["image"][samples["label"] == 0]
    assert dark.mean() == pytest.approx(161, abs=2)
    assert scores[0].detail["weights"] == "eval"


def test_an_average_that_is_not_kept_is_an_error_and_without_averages_the_last_weights_count():
    data = Data()
    model = gaussian()
    config = Config(sets=1, batch=16, metrics=("frechet",), average="slow")
    kept = {"fast": fitted(model).params, "eval": fitted(model).params}
    with pytest.raises(ConfigError, match=r"'slow'[\s\S]*eval, fast"):
        evaluate(model, fitted(model).replace(ema=kept), data, FEATURES, config)
    scores, _ = evaluate(model, fitted(model), data, FEATURES, config)
    assert scores[0].detail["weights"] == "last"
    last = Config(**{**vars(config), "average": None})
    scores, _ = evaluate(model, fitted(model).replace(ema=kept), data, FEATURES, last)
    assert scores[0].detail["weights"] == "last"


def test_a_model_without_sampler_and_sets_that_cannot_be_drawn():
    data = Data()
    model = gaussian()
    scores, samples = evaluate(model.replace(sample=None), fitted(model), data, FEATURES, CONFIG)
    assert (scores, samples) == ([], {})
    with pytest.raises(ConfigError, match="as many held-out"):
        floor(data, FEATURES, Config(samples=60))
    with pytest.raises(ConfigError, match="too few for k=5"):
        ReferenceStatistics(Data(train=5), FEATURES, Config())


def test_points_report_modes_without_being_told_labels():
    rng = np.random.default_rng(0)
    centres = np.asarray([[0, 0], [4, 0], [0, 4], [4, 4]], np.float32)
    data = Data()
    data.spec = Spec(
        {
            "point": Element((2,), "float32", None, "point", "target"),
            "label": Element((), "int32", 4, "label"),
        },
        400,
    )

    def draw(n):
        label = rng.integers(0, 4, n).astype(np.int32)
        return {"point": (centres[label] + rng.normal(0, 0.1, (n, 2))).astype(np.float32), "label": label}

    data.train = Split(draw(400))
    data.eval = Split(draw(60))

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
