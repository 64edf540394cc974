"""The metrics against the field's reference implementations, on the same features."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

from genjax.evaluation import frechet
from genjax.evaluation.metrics import kid
from genjax.evaluation.prdc import prdc

pytestmark = pytest.mark.peers

SHAPES = [(400, 300, 8), (1200, 297, 64), (120, 90, 256), (500, 500, 2)]  # the third has N < D


def features(n: int, m: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated, positive features, as a network's last layer has them, of two distributions."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dim, dim)) / np.sqrt(dim)
    real = np.maximum(rng.normal(size=(n, dim)) @ mix + 0.5, 0)
    fake = np.maximum(0.9 * rng.normal(size=(m, dim)) @ mix + 0.6, 0)
    return real.astype(np.float32), fake.astype(np.float32)


class _Anything(types.ModuleType):
    """Stands for an image library: the functions under test need only numpy and scipy."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name)

    def __call__(self, *args, **kwargs):
        return self

    def __iter__(self):
        return iter(())


def module(package: str, file: str, stubs: tuple[str, ...]) -> types.ModuleType:
    """A module of an installed package from its source file, with what it need not import stubbed."""
    found = importlib.util.find_spec(package)
    assert found is not None, f"{package} is not installed: install the optional group `peers`"
    assert found.submodule_search_locations
    path = Path(next(iter(found.submodule_search_locations))) / file
    spec = importlib.util.spec_from_file_location(f"_peer_{package}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded, saved = importlib.util.module_from_spec(spec), {name: sys.modules.get(name) for name in stubs}
    try:
        sys.modules.update({name: _Anything(name) for name in stubs})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spec.loader.exec_module(loaded)
    finally:
        for name, old in saved.items():
            if old is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = old
    return loaded


@pytest.fixture(scope="module")
def fid():
    stubs = ("torchvision", "torchvision.transforms", "pytorch_fid", "pytorch_fid.inception")
    return module("pytorch_fid", "fid_score.py", stubs)


@pytest.fixture(scope="module")
def fidelity():
    stubs = ("torch_fidelity", "torch_fidelity.helpers", "torch_fidelity.utils")
    loaded = module("torch_fidelity", "metric_kid.py", stubs)
    loaded.vassert = lambda ok, message: None  # type: ignore[attr-defined]
    return loaded


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_frechet_equals_pytorch_fid(fid, shape):
    real, fake = (x.astype(np.float64) for x in features(*shape))
    moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in (real, fake)]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # SciPy's deprecation of sqrtm's `disp`
        want = fid.calculate_frechet_distance(*moments[0], *moments[1])
    assert want > 0.01
    assert frechet.frechet(real, fake) == pytest.approx(float(want), rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kid_equals_torch_fidelity(fidelity, shape):
    real, fake = (x.astype(np.float64) for x in features(*shape))
    m = min(len(real), len(fake))  # its function takes equal counts
    real, fake = real[:m], fake[:m]
    kernel = lambda a, b: (a @ b.T / a.shape[1] + 1.0) ** 3
    want = fidelity.mmd2(kernel(real, real), kernel(real, fake), kernel(fake, fake))
    assert abs(want) > 1e-4
    assert kid.kid(real, fake, chunk=77) == pytest.approx(float(want), rel=1e-4)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_prdc_equals_prdc(shape, k: int):
    from prdc import compute_prdc

    real, fake = features(*shape)
    with contextlib.redirect_stdout(io.StringIO()):
        want = compute_prdc(real.astype(np.float64), fake.astype(np.float64), nearest_k=k)
    got = prdc(real, fake, k, chunk=97)
    for name, value in want.items():
        assert getattr(got, name) == pytest.approx(float(value), rel=1e-4), name
