"""Strict everywhere: eight emulated devices, no rank promotion, warnings as errors (pyproject.toml)."""

from __future__ import annotations

import gc
import os

from compiling import QUICK

# Numbers are compared within one set of flags.
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=8 {QUICK}")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import originals
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
# Tracing makes millions of small objects: collecting them less often takes an eighth off the time of a test.
gc.set_threshold(200_000, 50, 50)
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a module on one worker, which then makes its fixtures and compiles its programs once."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse versions of pytest and pytest-xdist that ignore groups: each worker would train every config."""
    grouped = [item for item in session.items if "@" in item.nodeid.rsplit("]", 1)[-1]]
    if getattr(session.config.option, "loadgroup", False) and len(grouped) < len(session.items):
        raise pytest.UsageError("pytest-xdist ignores xdist_group: install the versions of constraints.txt")


@pytest.fixture(autouse=True, scope="session")
def _originals(tmp_path_factory: pytest.TempPathFactory):
    """Name a folder of tiny originals, unless the environment names one of real data."""
    if "GENJAX_ORIGINALS" in os.environ:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENJAX_ORIGINALS", str(originals.write(tmp_path_factory.mktemp("originals"))))
        yield


@pytest.fixture(autouse=True, scope="session")
def _compile_once(tmp_path_factory: pytest.TempPathFactory):
    """Keep compiled programs on disk, a folder for each worker: many tests train the same config."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Compiled programs of a module that has ended only hold memory: gigabytes over the whole suite."""
    yield
    jax.clear_caches()
