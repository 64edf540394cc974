"""The context of metrics, and metrics and feature extractors as extension points."""

from __future__ import annotations

import collections
import functools
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_toys import (
    FEATURES,
    SIDE,
    TOY_DATA,
    Data,
    Pairs,
    Split,
    by_name,
    classify,
    embed,
    fitted,
    gaussian,
)

from genjax import evaluation
from genjax.core import Element, Spec
from genjax.errors import ConfigError
from genjax.evaluation import Config, Context, floor, metrics, table
from genjax.evaluation.evaluator import evaluate


def test_all_built_in_metrics_apply_where_they_can_and_are_in_the_order_of_the_criteria():
    data = Data()
    model = gaussian()
    config = Config(sets=2, batch=16, speed_batches=(16,), repeats=1)
    scores, _ = evaluate(model, fitted(model), data, FEATURES, config)
    found = [s.name for s in scores]
    assert found[:3] == ["frechet", "kid", "bits_per_dim/exact"]
    assert {"precision", "conditional_accuracy", "authenticity", "parameters", "samples_per_second_16"} <= {
        *found
    }
    assert not {"modes_found", "psnr"} & {*found}
    assert all(s.label and s.meaning for s in scores)
    assert by_name(scores)["samples_per_second_16"].label == "Samples a second (batch 16)"
    assert by_name(scores)["bits_per_dim/exact"].label == "Bits per dimension (exact)"
    assert len(found) == len({*found})


def test_unknown_metrics_and_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"metrics: 'frecht' .* \(did you mean 'frechet'\?\)"):
        Config(metrics=("frecht",))
    data = Data()
    model = gaussian()
    with pytest.raises(ConfigError, match="no_such_package"):
        evaluate(model, fitted(model), data, FEATURES, Config(metrics=("no_such_package.metric",)))
    for wrong in ({"samples": 7}, {"k": 0}, {"kid_subset": 1}, {"speed_batches": (0,)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Config(**wrong)


def test_a_metric_outside_the_package_is_used_like_a_built_in_one():
    data = Data()
    model = gaussian()
    config = Config(sets=2, batch=16, metrics=("evaluation_plugins.brightness", "frechet"))
    rows = {
        "model": evaluate(model, fitted(model), data, FEATURES, config)[0],
        "real": floor(data, FEATURES, config),
    }
    columns = table(rows)
    assert [c.name for c in columns] == ["brightness", "frechet"]
    assert columns[0].label == "Brightness"
    values = {row: s.value for row, s in columns[0].scores.items()}
    assert values["model"] == pytest.approx(120 / 255, abs=0.05)
    assert values["real"] == pytest.approx(data.eval.columns["image"].mean() / 255, rel=1e-5)


def test_an_extractor_outside_the_package_is_used_like_a_built_in_one(tmp_path: Path):
    data = Data()
    model = gaussian()
    request = evaluation.features.Request(data, "image", tmp_path)
    features = evaluation.features.build("evaluation_plugins.blocks:2", request)
    assert features is not None
    config = Config(sets=1, batch=16, metrics=("frechet",))
    scores, _ = evaluate(model, fitted(model), data, features, config)
    assert scores[0].protocol["features"] == "blocks/2"
    context = Context(data, features, config, model=model, variables=fitted(model))
    assert context.reference.embeddings.shape == (120, 4)
    with pytest.raises(ConfigError, match=r"unknown feature extractor 'pixel' \(did you mean 'pixels'\?\)"):
        evaluation.features.build("pixel", request)


def test_default_features_are_the_dataset_s_classifier_or_its_raw_values(tmp_path: Path):
    data = Data()
    data.config = TOY_DATA
    asked = []

    def train(name, overrides):
        asked.append((name, overrides))
        predict = lambda v, batch: {
            "logits": -jnp.abs(batch["image"].mean((1, 2, 3))[:, None] - 60.0 * jnp.arange(1, 4)[None]),
            "features": batch["image"].reshape(-1, SIDE * SIDE).astype(jnp.float32),
        }
        model = gaussian().replace(predict=predict)
        return evaluation.features.Classifier(model, fitted(model), "toy", step=7, digest="d")

    make = functools.partial(evaluation.features.Request, data, "image", tmp_path, train)
    build = evaluation.features.build
    pixels = build(None, make(exists=lambda name: False))
    assert pixels is not None
    assert (pixels.digest, pixels.classify, asked) == ("pixels/256", None, [])
    np.testing.assert_allclose(pixels.embed(np.full((2, SIDE, SIDE, 1), 51, np.uint8)), 0.2, rtol=1e-6)
    found = build(None, make(exists=lambda name: name == "stripes/classifier"))
    assert found is not None
    assert asked == [("stripes/classifier", {"name": "stripes", "limit": 5})]
    assert found.digest == "d"
    assert found.accuracy is not None
    assert found.accuracy > 0.95
    assert found.about()["description"].endswith("toy, step 7")
    with pytest.raises(ConfigError, match="names no config"):
        build("classifier", make())
    data.spec = Spec({"tokens": Element((4,), "int32", 9, "tokens", "target")}, 8)
    data.train = Split({"tokens": np.zeros((8, 4), np.int32)})
    assert build(None, evaluation.features.Request(data, "tokens", tmp_path)) is None
    assert evaluation.measurable(Data().spec)
    assert not evaluation.measurable(data.spec)


def test_a_metric_that_is_named_and_does_not_apply_is_logged_with_the_reason(caplog):
    data = Data()
    model = gaussian().replace(likelihood=None)
    config = Config(sets=1, batch=16, metrics=("frechet", "likelihood", "modes", "psnr", "accuracy"))
    with caplog.at_level(logging.WARNING, logger="genjax"):
        scores, _ = evaluate(model, fitted(model), data, None, config)
    assert [s.name for s in scores] == ["frechet"]
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 4
    assert "'likelihood' was left out: the model has no likelihood" in said[0]
    assert (
        "'modes' was left out: it is defined for targets of kind point, and this one is of kind image"
        in said[1]
    )
    assert "'psnr' was left out: the held-out rows are not pairs" in said[2]
    assert "'accuracy' was left out: the feature extractor has no classifier" in said[3]
    caplog.clear()
    evaluate(model, fitted(model), data, None, Config(sets=1, batch=16, speed_batches=(), repeats=1))
    assert caplog.records == []  # all that apply: nothing was named


def test_a_context_computes_everything_once_and_only_when_it_is_used():
    data = Data()
    counts = collections.Counter()

    def counted(name, function):
        def call(*args, **given):
            counts[name] += 1
            return function(*args, **given)

        return call

    features = FEATURES._replace(embed=counted("embed", embed), classify=counted("classify", classify))
    data.train.rows = counted("train rows", data.train.rows)
    drawn = []
    model = gaussian()
    sample = model.sample
    assert sample is not None

    def draw(v, keys, prompt, *, scale=1.0):
        jax.debug.callback(lambda: drawn.append(1))
        return sample(v, keys, prompt, scale=scale)

    model = model.replace(sample=draw)
    config = Config(
        sets=2, batch=50, metrics=("frechet", "kid", "prdc", "diversity", "accuracy", "neighbours")
    )
    context = Context(data, features, config, model=model, variables=fitted(model))
    assert not counts
    for name in (
        "reference",
        "variables",
        "sets",
        "samples",
        "embeddings",
        "raws",
        "predicted",
        "conditions",
    ):
        assert getattr(context, name) is getattr(context, name), name
    lazy = (
        "measurable",
        "rows",
        "embeddings",
        "moments",
        "manifold",
        "raw",
        "distances",
        "held_out_distances",
    )
    for name in lazy:
        assert getattr(context.reference, name) is getattr(context.reference, name), name
    before = dict(counts)
    for metric in metrics.applicable(context):
        assert metric.measure(context)
    jax.effects_barrier()
    assert counts == before
    # 120 reference rows are 3 batches of 50, and 2 sets of 50 samples are one batch each.
    assert counts["embed"] == 5
    assert counts["classify"] == 2
    assert len(drawn) == 2
    # Another context with the same reference computes nothing of it again.
    shared = Context(data, features, config, reference=context.reference)
    rows = counts["train rows"]
    assert shared.reference.embeddings is context.reference.embeddings
    assert floor(data, features, config, reference=context.reference)
    assert counts["train rows"] == rows


def test_a_likelihood_alone_needs_no_reference():
    data = Data(train=5)
    model = gaussian()
    scores, samples = evaluate(model, fitted(model), data, FEATURES, Config(metrics=("likelihood",)))
    assert [s.name for s in scores] == ["bits_per_dim/exact"]
    assert samples == {}
    codes = model.replace(likelihood_kind="codes")
    scores, _ = evaluate(codes, fitted(model), data, FEATURES, Config(metrics=("likelihood",)))
    assert scores[0].name == "nats_per_code/codes"
    wrong = model.replace(likelihood_kind="exakt")
    with pytest.raises(ValueError, match="'exakt' is not one of"):
        evaluate(wrong, fitted(model), data, FEATURES, Config(metrics=("likelihood",)))


def test_labels_may_be_left_out():
    data = Data()
    model = gaussian()
    config = Config(sets=1, batch=16, metrics=("accuracy",), labels=False)
    scores, samples = evaluate(model, fitted(model), data, FEATURES, config)
    assert [s.name for s in scores] == ["effective_classes"]
    assert scores[0].detail["prompt"] == "none"
    assert scores[0].value == pytest.approx(1, abs=0.2)
    assert not samples["label"].any()
    scores, _ = evaluate(
        model, fitted(model), data, FEATURES, Config(sets=1, batch=16, metrics=("accuracy",))
    )
    assert scores[0].detail["prompt"] == "balanced labels"


def test_text_has_samples_to_look_at_and_no_scores_of_them():
    data = Data()
    data.spec = Spec({"tokens": Element((4,), "int32", 9, "tokens", "target")}, 8)
    data.train = data.eval = Split({"tokens": np.zeros((8, 4), np.int32)})
    sample = lambda v, keys, prompt: {"tokens": jnp.zeros((keys.shape[0], 4), jnp.int32)}
    model = gaussian().replace(sample=sample)
    scores, samples = evaluate(
        model, fitted(model), data, None, Config(batch=5, metrics=("frechet", "likelihood"))
    )
    assert [s.name for s in scores] == ["nats_per_token/exact"]
    assert samples["tokens"].shape == (5, 4)
    assert floor(data, None, Config()) == []


def test_psnr_equals_a_hand_computation():
    data = Pairs()
    shift = jnp.arange(SIDE * SIDE, dtype=jnp.uint8).reshape(1, SIDE, SIDE, 1) % 3

    def sample(v, keys, prompt):
        return {"answer": 255 - prompt["input"] + shift}

    model = gaussian().replace(sample=sample)
    config = Config(samples=8, sets=2, batch=3, k=2, metrics=("psnr", "frechet"))
    scores, samples = evaluate(model, fitted(model), data, None, config)
    # Held-out rows in order and round again, each the same distance from its own target.
    np.testing.assert_array_equal(samples["input"], data.eval.rows(np.arange(16) % 10)["input"])
    error = np.mean(np.square(np.arange(16) % 3 / 255.0))
    s = by_name(scores)["psnr"]
    assert s.value == pytest.approx(10 * np.log10(1 / error), abs=1e-4)
    assert (s.unit, s.better, s.criterion) == ("dB", "higher", "alignment")
    assert s.detail["prompt"] == "held-out rows"
    assert "psnr" not in by_name(floor(data, None, config))
    exact = model.replace(sample=lambda v, keys, prompt: {"answer": 255 - prompt["input"]})
    assert by_name(evaluate(exact, fitted(model), data, None, config)[0])["psnr"].value == 100


def test_psnr_of_rows_by_hand():
    targets = np.zeros((2, 4), np.float32)
    got = metrics.load("psnr").psnr(np.asarray([[0.1] * 4, [1, 0, 0, 0]], np.float32), targets)
    np.testing.assert_allclose(got, [20, 10 * np.log10(4)], rtol=1e-6)


SMALL = ("frechet", "kid", "prdc")


@pytest.mark.parametrize(("rows", "k"), [(6, 5), (11, 5), (12, 5), (2, 1)])
def test_a_single_set_of_few_rows_has_scores_without_the_intervals_that_it_cannot_have(rows: int, k: int):
    """Subsampling halves a set: the half must hold a k-th neighbour."""
    data = Data(held_out=rows)
    model = gaussian()
    config = Config(sets=1, batch=8, k=k, metrics=SMALL)
    found, _ = evaluate(model, fitted(model), data, FEATURES, config)
    for scores in (by_name(found), by_name(floor(data, FEATURES, config))):
        for name in ("precision", "recall", "density", "coverage"):
            score = scores[name]
            assert (score.low is not None) == (rows // 2 >= k + 1), (name, rows)
            if score.low is None:
                assert f"half of {rows} rows" in str(score.detail["interval"])
        assert (scores["kid"].low is not None) == (rows // 2 >= 2)


def test_no_more_rows_than_neighbours_are_one_error():
    model = gaussian()
    with pytest.raises(ConfigError, match=r"5 rows .* too few for k=5"):
        evaluate(model, fitted(model), Data(held_out=5), FEATURES, Config(sets=1, k=5, metrics=SMALL))
