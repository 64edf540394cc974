"""Data of two domains: pairs where promised, independent orders where not, small copies of images."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import originals
import pytest
from PIL import Image

import genjax.data as gd
from genjax.data.load import of_targets
from genjax.errors import ConfigError, DataError
from genjax.spec import Spec, from_json, to_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return originals.write(tmp_path)


def load(folder: Path, name: str, **how) -> gd.Dataset:
    return gd.load(name=name, originals=str(folder), batch=8, **how)


def radius(image: np.ndarray) -> np.ndarray:
    """Half the width of the disc in the middle row of each image."""
    return (image[:, 16] != 255).any(-1).sum(1) / 2


def colour(image: np.ndarray) -> np.ndarray:
    return image[:, 16, 16].astype(int)


@pytest.mark.parametrize("name", ["emoji_styles", "emoji_styles:paired"])
def test_held_out_styles_are_pairs(folder: Path, name: str):
    dataset = load(folder, name)
    rows = dataset.eval.rows(np.arange(len(dataset.eval)))
    np.testing.assert_array_equal(colour(rows["source"]), colour(rows["image"]))
    assert radius(rows["source"]).min() > radius(rows["image"]).max()
    paired = name.endswith("paired")
    assert (dataset.spec.paired, dataset.spec.held_pairs) == (paired, not paired)
    assert from_json(to_json(dataset.spec)) == dataset.spec


def test_training_rows_are_pairs_only_if_asked_for(folder: Path):
    for name, together in (("emoji_styles:paired", True), ("emoji_styles", False)):
        dataset = load(folder, name)
        batch = dataset.train.stream(order="shuffled", batch=8, seed=0)[0]
        same = (colour(batch["source"]) == colour(batch["image"])).all(-1)
        assert same.all() if together else same.sum() <= 2


def test_no_emoji_is_in_both_parts(folder: Path):
    dataset = load(folder, "emoji_styles:paired")
    parts = [
        {x.tobytes() for x in s.rows(np.arange(len(s)))["source"]} for s in (dataset.train, dataset.eval)
    ]
    assert not parts[0] & parts[1]


def test_mnist_and_usps_have_one_size_and_the_label_of_the_source(folder: Path):
    dataset = load(folder, "mnist_usps")
    rows = dataset.eval.rows(np.arange(20))
    assert rows["source"].shape == rows["image"].shape == (20, 16, 16, 1)
    # The bar of a digit stands where its label says: higher digits are lower in the image.
    place = rows["source"][..., 0].sum(2, dtype=int).argmax(1)
    assert np.corrcoef(place, rows["label"])[0, 1] > 0.95
    assert dataset.spec.conditions == ("source",)
    assert not dataset.spec.held_pairs


def test_usps_is_read_as_levels(folder: Path):
    dataset = load(folder, "usps")
    stored = np.load(folder / "usps" / "usps.npz")
    rows = dataset.eval.rows(np.arange(len(dataset.eval)))
    np.testing.assert_allclose(rows["image"][..., 0] / 127.5 - 1, stored["x_test"], atol=0.005)
    np.testing.assert_array_equal(rows["label"], stored["y_test"])


@pytest.mark.parametrize(("name", "side"), [("mnist", 28), ("mnist:16", 16)])
def test_the_originals_of_mnist_are_read(folder: Path, name: str, side: int):
    dataset = load(folder, name)
    assert (len(dataset.train), len(dataset.eval)) == (60, 30)
    rows = dataset.eval.rows(np.arange(30))
    assert rows["image"].shape == (30, side, side, 1)
    place = rows["image"][..., 0].sum(2, dtype=int).argmax(1)
    assert np.corrcoef(place, rows["label"])[0, 1] > 0.95
    assert dataset.spec.conditions == ("label",)


@pytest.mark.parametrize(("name", "side"), [("stacked_mnist", 28), ("stacked_mnist:16", 16)])
def test_the_label_of_stacked_digits_is_what_the_channels_show(folder: Path, name: str, side: int):
    dataset = load(folder, name)
    rows = dataset.train.rows(np.arange(200))
    assert rows["image"].shape == (200, side, side, 3)
    digits = np.stack([rows["label"] // 100, rows["label"] // 10 % 10, rows["label"] % 10], 1)
    place = rows["image"].sum(2, dtype=int).argmax(1)
    for channel in range(3):
        assert np.corrcoef(place[:, channel], digits[:, channel])[0, 1] > 0.95
    assert len(dataset.train) == 60_000
    assert dataset.spec.conditions == ()


def test_the_small_copy_is_that_of_pillow():
    dataset = gd.load(name="mnist5k", downsample=2, limit=6)
    rows = dataset.eval.rows(np.arange(6))
    assert rows["source"].shape == (6, 14, 14, 1)
    for small, large in zip(rows["source"], rows["image"], strict=True):
        expected = Image.fromarray(large[..., 0]).resize((14, 14), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(small[..., 0], np.asarray(expected))
    assert dataset.spec.paired
    assert dataset.spec.conditions == ("source",)
    assert dataset.spec["label"].role == "auxiliary"
    # The same rows, in the same order, as without the copies.
    plain = gd.load(name="mnist5k", limit=6)
    for stream in ("shuffled", "once"):
        batches = [d.train.stream(order=stream, batch=4, seed=1)[1] for d in (dataset, plain)]
        np.testing.assert_array_equal(batches[0]["image"], batches[1]["image"])
    assert dataset.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("ring", {"downsample": 2}, "data.downsample needs one target that is an image"),
        ("digits", {"downsample": 2}, "data.downsample needs one target that is an image of 256 levels"),
        ("usps", {"downsample": 4, "binarise": "threshold"}, "256 levels"),
        ("emoji_styles", {"downsample": 2}, "no element `source`"),
        ("emoji_styles:twin", {}, "there are no such rows"),
        ("stacked_mnist:14", {}, "there is no such size"),
        ("mnist:14", {}, "there is no such size"),
    ],
)
def test_data_that_cannot_be_had_is_refused(folder: Path, name: str, how: dict, message: str):
    with pytest.raises(DataError, match=message):
        load(folder, name, **how)


@pytest.mark.parametrize("name", ["mnist/train-images-idx3-ubyte.gz", "usps/usps.npz"])
def test_damaged_originals_are_named(folder: Path, name: str):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=f"{path.name} is damaged"):
        load(folder, "mnist_usps")


def test_two_domains_of_a_zip_are_none_of_pairs():
    assert not Spec({}).held_pairs
    spec = gd.load(name="zip:digits,digits").spec
    assert not spec.paired
    assert not spec.held_pairs


def test_joined_domains_count_the_rows_of_the_shorter_one(folder: Path):
    dataset = load(folder, "mnist_usps")
    assert (len(dataset.train), dataset.train.distinct) == (60, 50)
    assert (len(dataset.eval), dataset.eval.distinct) == (30, 20)
    assert load(folder, "usps").train.distinct == 50


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("mnist_usps", "usps"),
        ("emoji_styles", "emoji:twitter"),
        ("stacked_mnist", "mnist"),
        ("stacked_mnist:16", "mnist:16"),
        ("digits", "digits"),
        ("tfds:mnist", "tfds:mnist"),
    ],
)
def test_a_source_of_two_domains_names_the_dataset_of_its_targets(name: str, targets: str):
    assert of_targets(name) == targets


def test_stacked_digits_are_judged_channel_by_channel(folder: Path):
    """By a classifier of one channel that finds the bright row; images whose digits are known score 1."""
    from genjax.core import Model, Variables
    from genjax.evaluation.features import Classifier, Request, channels

    dataset = load(folder, "stacked_mnist")
    one = load(folder, "mnist")

    def predict(variables: Variables, batch: dict) -> dict:
        place = jnp.float32(batch["image"])[..., 0].sum(2).argmax(1)
        bars = 28 // 5 + jnp.arange(10) * (28 * 3 // 5) // 10
        found = (place[:, None] == bars[None]).argmax(1)
        return {"logits": jax.nn.one_hot(found, 10), "features": found[:, None].astype(jnp.float32)}

    model = Model(init=lambda *a: Variables(), phases={}, predict=predict)
    asked = []

    def train(config: str, data: dict) -> Classifier:
        asked.append((config, data["name"]))
        return Classifier(model, Variables(), "bars", 1, "0" * 64, one)

    request = Request(dataset=dataset, element="image", cache=folder, train=train, say=lambda text: None)
    found = channels.build("mnist/classifier", request)
    assert asked == [("mnist/classifier", "mnist")]
    rows = dataset.eval.rows(np.arange(50))
    assert found.classify is not None
    truth = (found.classify(rows["image"]) == rows["label"]).mean()
    assert truth == found.accuracy == 1.0
    assert found.logits is not None
    joint = np.asarray(found.logits(rows["image"]))
    assert joint.shape == (50, 1000)
    np.testing.assert_allclose(np.exp(joint).sum(1), 1.0, rtol=1e-4)
    np.testing.assert_array_equal(found.embed(rows["image"]) @ [100, 10, 1], rows["label"])
    emoji = load(folder, "emoji:google")
    request = Request(dataset=emoji, element="image", cache=folder, train=train, say=lambda text: None)
    with pytest.raises(ConfigError, match="are not the"):
        channels.build("mnist/classifier", request)
