"""evaluate() and floor() on a small model and on data of known distribution."""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import evaluation
from genjax.core import Aux, Element, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError, NonFiniteError, ProtocolError
from genjax.evaluation import Config, Context, Features, ReferenceStatistics, floor, metrics, table
from genjax.evaluation.evaluator import evaluate

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
    config: Any = None

    def __init__(self, train: int = 120, held_out: int = 50):
        self.spec = Spec(
            {
                "image": Element((SIDE, SIDE, 1), "uint8", 256, "image", "target"),
                "label": Element((), "int32", CLASSES, "label", "condition"),
            },
            train,
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

    def sample(v, keys, prompt, *, scale=1.0):
        label = prompt.get("label", jnp.zeros(keys.shape[0], jnp.int32))
        return {"image": jax.vmap(draw, (None, 0, 0))(v, keys, label * jnp.int32(scale)), "label": label}

    def score(v, batch, keys):
        size = SIDE * SIDE * jnp.ones(keys.shape[0])
        return Mean(size * jnp.log(256.0), size), {}

    return Model(init, {"main": Phase("model", loss)}, sample=sample, likelihood=score)


def fitted(model: Model) -> Variables:
    return model.init(jax.random.key(0), Data().spec.example(2), {})


@dataclasses.dataclass(frozen=True)
class ToyData:
    """Stand for a data section; `batch` does not say which rows there are."""

    name: str = "stripes"
    limit: int = 5
    batch: int = 3


TOY_DATA = ToyData()


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
    data, model = Data(), gaussian()
    config = Config(**{**vars(CONFIG), "batch": batch})
    one, x = evaluate(model, fitted(model), data, FEATURES, CONFIG)
    other, y = evaluate(model, fitted(model), data, FEATURES, config)
    np.testing.assert_array_equal(x["image"], y["image"])
    assert [(s.name, s.value, s.low, s.high) for s in one] == [
        (s.name, s.value, s.low, s.high) for s in other
    ]


def test_another_protocol_is_refused_and_options_are_not():
    data, model = Data(), gaussian()
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


def test_an_average_that_is_not_kept_is_an_error_and_without_averages_the_last_weights_count():
    data, model = Data(), gaussian()
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
    data, model = Data(), gaussian()
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


# --- metrics and extractors as extension points ------------------------------------------------------


def test_all_built_in_metrics_apply_where_they_can_and_are_in_the_order_of_the_criteria():
    data, model = Data(), gaussian()
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
    with pytest.raises(ConfigError, match=r"'frecht' \(did you mean 'frechet'\?\)"):
        Config(metrics=("frecht",))
    data, model = Data(), gaussian()
    with pytest.raises(ConfigError, match="no_such_package"):
        evaluate(model, fitted(model), data, FEATURES, Config(metrics=("no_such_package.metric",)))
    for wrong in ({"samples": 7}, {"k": 0}, {"kid_subset": 1}, {"speed_batches": (0,)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Config(**wrong)


def test_a_metric_outside_the_package_is_used_like_a_built_in_one():
    data, model = Data(), gaussian()
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
    data, model = Data(), gaussian()
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
    data, model = Data(), gaussian().replace(likelihood=None)
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
    assert "'psnr' was left out: the data is not paired" in said[2]
    assert "'accuracy' was left out: the feature extractor has no classifier" in said[3]
    caplog.clear()
    evaluate(model, fitted(model), data, None, Config(sets=1, batch=16, speed_batches=(), repeats=1))
    assert caplog.records == []  # all that apply: nothing was named


def test_a_context_computes_everything_once_and_only_when_it_is_used():
    data, counts = Data(), collections.Counter()

    def counted(name, function):
        def call(*args, **given):
            counts[name] += 1
            return function(*args, **given)

        return call

    features = FEATURES._replace(embed=counted("embed", _embed), classify=counted("classify", _classify))
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
    data, model = Data(train=5), gaussian()
    scores, samples = evaluate(model, fitted(model), data, FEATURES, Config(metrics=("likelihood",)))
    assert [s.name for s in scores] == ["bits_per_dim/exact"]
    assert samples == {}
    codes = model.replace(likelihood_kind="codes")
    scores, _ = evaluate(codes, fitted(model), data, FEATURES, Config(metrics=("likelihood",)))
    assert scores[0].name == "bits_per_dim/codes"
    wrong = model.replace(likelihood_kind="exakt")
    with pytest.raises(ValueError, match="'exakt' is not one of"):
        evaluate(wrong, fitted(model), data, FEATURES, Config(metrics=("likelihood",)))


def test_labels_may_be_left_out():
    data, model = Data(), gaussian()
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


class Pairs(Data):
    """A source image and its answer: the source's negative."""

    def __init__(self, held_out: int = 10):
        image = Element((SIDE, SIDE, 1), "uint8", 256, "image")
        elements = {"input": image.replace(role="condition"), "answer": image.replace(role="target")}
        self.spec = Spec(elements, 20, paired=True)
        rng = np.random.default_rng(0)

        def rows(n):
            x = rng.integers(10, 240, (n, SIDE, SIDE, 1)).astype(np.uint8)
            return Split({"input": x, "answer": 255 - x})

        self.train, self.eval = rows(20), rows(held_out)


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
