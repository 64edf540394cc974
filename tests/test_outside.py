"""Extensions outside the package, by the command line: train, sample, evaluate and compare."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genjax import cli
from genjax.config import build
from genjax.workflows import compare

CONFIGS = Path(__file__).parent / "outside" / "configs"
QUIET = ["--config.train.tensorboard=False", "--config.train.compilation_cache=False"]
EVALUATION = [
    "--evaluate.samples=32",
    "--evaluate.sets=2",
    "--evaluate.speed_batches=(4,)",
    "--evaluate.repeats=1",
]
MODELS = ["realnvp", "vqvae_prior", "translator", "waves"]


def config_of(name: str) -> str:
    return f"{CONFIGS / name}.py:smoke"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """name -> the directory of its run, trained once by one command."""
    folder = tmp_path_factory.mktemp("outside")

    @functools.cache
    def get(name: str) -> Path:
        command = ["train", f"--config={config_of(name)}", f"--dir={folder / name}", *QUIET]
        assert cli.main(command) == 0
        return folder / name

    return get


@pytest.fixture(scope="module")
def scored(run: Callable[[str], Path]) -> Callable[[str], Path]:
    """name -> the directory of its run, evaluated once."""

    @functools.cache
    def get(name: str) -> Path:
        assert cli.main(["evaluate", str(run(name)), "--features=pixels", *EVALUATION]) == 0
        return run(name)

    return get


@pytest.mark.parametrize("name", MODELS)
def test_samples_and_scores_and_a_page(name: str, scored: Callable[[str], Path]):
    directory = scored(name)
    assert cli.main(["sample", str(directory), "--num=4"]) == 0
    with np.load(next((directory / "samples").glob("sample*.npz"))) as rows:
        drawn = dict(rows)
    scores = {s["name"]: s for s in json.loads((directory / "scores.json").read_text())}
    assert scores["frechet"]["value"] > 0
    with np.load(directory / "samples" / "samples.npz") as kept:
        for column in set(drawn) & set(kept):
            assert kept[column].shape[1:] == drawn[column].shape[1:]
    assert "<html" in (directory / "report.html").read_text()


def test_one_sample_is_reproduced_by_its_index(scored: Callable[[str], Path]):
    directory = scored("realnvp")
    out = directory.parent / "again"
    assert cli.main(["sample", str(directory), "--start=37", "--num=5", f"--out={out}"]) == 0
    with np.load(directory / "samples" / "samples.npz") as kept, np.load(f"{out}.npz") as again:
        for column in again:
            np.testing.assert_array_equal(again[column], kept[column][37:42])


def test_a_translation_is_shown_beside_its_input(
    scored: Callable[[str], Path], caplog: pytest.LogCaptureFixture
):
    directory = scored("translator")
    runs = directory.parent
    folder = runs / "inputs"
    folder.mkdir()
    from PIL import Image

    for i in range(3):
        Image.fromarray(np.full((8, 8), 80 * i, np.uint8)).save(folder / f"{i}.png")
    out = runs / "translated"
    command = ["sample", str(directory), f"--input={folder}", "--num=3", f"--out={out}"]
    assert cli.main(command) == 0
    written = sorted(p.name for p in runs.glob("translated*.png"))
    assert written == ["translated_image_a.png", "translated_image_b.png"]
    with np.load(next(runs.glob("translated*.npz"))) as rows:
        assert [int(x.max()) for x in rows["image_a"]] == [0, 5, 10]  # of 17 levels
        assert rows["image_b"].shape == (3, 8, 8, 1)
    page = (directory / "report.html").read_text()
    assert "image_a" in page
    assert "image_b" in page
    # A folder gets a file for each input, of its name and of the image's own size.
    (folder / "more").mkdir()
    Image.new("RGB", (20, 10)).save(folder / "more" / "wide.jpg")
    caplog.clear()
    command = ["sample", str(directory), f"--input={folder}", f"--out={runs / 'each'}/"]
    assert cli.main(command) == 0
    assert sorted(p.name for p in (runs / "each").iterdir()) == ["0.png", "1.png", "2.png", "more_wide.png"]
    with Image.open(runs / "each" / "more_wide.png") as picture:
        assert picture.size == (8, 8)
    said = [m for m in caplog.messages if "the model reads images" in m]
    assert said == [
        "the model reads images of 8x8; of 4 images 1 cropped at the centre, 1 made smaller, 1 turned to grey"
    ]
    assert cli.main([*command, "--num=6"]) == 0
    assert {"0_1.png", "1_1.png"} <= {p.name for p in (runs / "each").iterdir()}


def test_kind_metric_and_features_from_outside_are_used(
    run: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    directory = run("waves")
    monkeypatch.chdir(directory.parent)
    assert list((directory / "samples").glob("step_*.png")), "training draws pictures through the kind"
    assert cli.main(["evaluate", str(directory)]) == 0
    scores = {s["name"]: s for s in json.loads((directory / "scores.json").read_text())}
    assert scores["roughness"]["label"] == "Roughness"
    assert scores["frechet"]["protocol"]["features"] == "spectrum"
    assert any(name.startswith("nats_per_sample/") for name in scores), "the unit comes from the kind"
    page = (directory / "report.html").read_text()
    assert "Roughness" in page
    assert 'class="wave"' in page


def test_models_from_outside_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    entries = {
        "flow": {"config": config_of("realnvp"), "family": "RealNVP"},
        "codes": {"config": config_of("vqvae_prior"), "family": "VQ-VAE and GPT"},
    }
    raw = {
        "name": "outside",
        "entries": entries,
        "budget": {"kind": "steps", "value": 4},
        "features": "pixels",
        "evaluate": {"samples": 32, "sets": 2, "metrics": ("frechet", "likelihood")},
    }
    page = compare.compare(build(compare.Config, raw, "config"), tmp_path / "comparison")
    report = json.loads(page.with_name("report.json").read_text())
    assert all(e["status"] == "scored" for e in report["entries"].values())
    assert "RealNVP" in page.read_text()
