"""The example of docs/extending.md: its code is that of tests/outside, and every command works on it."""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest

from genjax import evaluation, settings
from genjax.workflows import assemble, evaluate, sample, train

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n# (tests/outside/\w+\.py)[^\n]*\n(.*?)```", PAGE, re.DOTALL)
QUIET = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> assemble.Trained:
    config = f"{ROOT / 'tests' / 'outside' / 'config.py'}:smoke"
    directory = tmp_path_factory.mktemp("runs") / "tones"
    train.train(settings.complete(settings.load(config, QUIET)), directory)
    return assemble.restore(directory)


def test_the_page_quotes_the_code_that_is_tested():
    assert {name for name, _ in BLOCKS} >= {
        f"tests/outside/{name}.py" for name in ("gaussian", "waveform", "tones", "loudness", "config")
    }
    for name, block in BLOCKS:
        source = (ROOT / name).read_text("utf-8")
        for part in block.split("...\n"):
            assert part.strip() in source, f"{name} does not contain:\n{part}"


def test_the_state_is_fitted_on_real_rows(trained: assemble.Trained):
    rows = trained.experiment.dataset.train.rows(np.arange(512))["wave"]
    np.testing.assert_allclose(trained.variables.state["std"], rows.std(0), rtol=1e-4)


def test_samples_of_one_class_are_saved_as_sound(trained: assemble.Trained, tmp_path: Path):
    dataset = trained.experiment.dataset
    given = sample.conditions(dataset, 3, 0, {"label": "2"})
    rows = sample.draw(trained, 3, conditions=given)
    assert rows["pitch"].tolist() == [2, 2, 2]
    path = sample.save(dataset, rows, tmp_path / "tones")
    with wave.open(str(path)) as sound:
        assert (sound.getnframes(), sound.getframerate()) == (3 * 64, 8000)


def test_a_sample_does_not_depend_on_the_others(trained: assemble.Trained):
    whole = sample.draw(trained, 8, start=0)["wave"]
    part = sample.draw(trained, 2, start=3)["wave"]
    np.testing.assert_array_equal(part, whole[3:5])


def test_the_metric_and_the_likelihood_are_scored(trained: assemble.Trained, tmp_path: Path):
    features = evaluate.features(None, trained.experiment.dataset, tmp_path)
    scores = {s.name: s for s in evaluate.evaluate(trained, features)}
    assert set(scores) >= {"loudness", "nats_per_dim/density", "frechet"}
    held = trained.experiment.dataset.eval.rows(np.arange(128))["wave"]
    # Normal values have the mean square of the data whatever the class, as soon as the moments are fitted.
    assert scores["loudness"].value == pytest.approx(np.sqrt(np.square(held).mean()), rel=0.1)
    floor = evaluation.floor(trained.experiment.dataset, features, evaluate.config_of(trained))
    assert {s.name for s in floor} == {"loudness", "frechet"}
    saved = json.loads((trained.directory / "scores.json").read_text("utf-8"))
    assert "loudness" in json.dumps(saved)


def test_the_table_of_imports_in_the_design_is_the_rule():
    from test_architecture import LEAVES, MATHS, MAY_IMPORT

    page = (ROOT / "docs" / "DESIGN.md").read_text("utf-8")
    table = page.partition("| module | may import |\n|---|---|\n")[2].partition("\n\n")[0]
    groups = {"leaves": LEAVES, "maths": MATHS, "nothing": set()}
    written = {}
    for line in table.splitlines():
        modules, allowed = line.strip("| ").split(" | ")
        named = [groups.get(name, {name}) for name in allowed.split(", ")]
        written |= {module: set().union(*named) for module in re.findall(r"`(\w+)`", modules)}
    assert written == MAY_IMPORT
