"""Reading run directories; and `build`, which writes a made-up comparison without any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from genjax.errors import DataError
from genjax.evaluation import scores as evaluation
from genjax.evaluation.scores import Score
from genjax.kinds import _pixels
from genjax.report import runs, samples
from genjax.spec import Element, Spec, to_json

FAMILIES = {"ngram": "n-gram", "vae": "VAE", "gan": "GAN", "gpt": "GPT", "diffusion": "Diffusion"}
QUALITY = {  # made up, in the order of NAMES
    "floor": (1.9, 0.0002, 0.93, 0.93, 0.99, 0.95, 0.981, None),
    "ngram": (96.0, 0.071, 0.21, 0.34, 0.18, 0.22, None, 0.02),
    "vae": (31.0, 0.019, 0.71, 0.55, 0.62, 0.58, 0.92, 0.47),
    "gan": (19.5, 0.011, 0.83, 0.49, 0.85, 0.66, 0.90, 0.49),
    "gpt": (8.7, 0.0041, 0.88, 0.86, 0.91, 0.88, 0.953, 0.50),
    "diffusion": (8.1, 0.0036, 0.90, 0.85, 0.94, 0.89, 0.964, 0.61),
}
NAMES: dict[str, tuple[Any, Any]] = {
    "frechet": ("lower", "realism"),
    "kid": ("lower", "realism"),
    "precision": ("higher", "realism"),
    "recall": ("higher", "diversity"),
    "density": ("higher", "realism"),
    "coverage": ("higher", "diversity"),
    "conditional_accuracy": ("higher", "controllability"),
    "memorisation": ("none", "diversity"),
}
COST = {  # made up: parameters, training FLOP an example, training seconds, samples per second at batch 64
    "ngram": (0, 2.1e2, 1.4, 410.0),
    "vae": (412_331, 3.9e6, 60.2, 18_200.0),
    "gan": (1_204_993, 9.8e6, 60.1, 9_700.0),
    "gpt": (813_568, 2.2e7, 60.4, 120.0),
    "diffusion": (1_510_017, 4.4e7, 60.3, 21.0),
}
LABELS = {"frechet": ("Fréchet distance", "between Gaussians fitted to the features"), "kid": ("KID", "")}
"""Headings and meanings that metrics give to some of the scores; the others are shown by their names."""
SHARED = {
    "dataset": "digits",
    "fingerprint": "5e1f0c",
    "split": "eval",
    "samples": 900,
    "features": "b71c22",
    "seed": 0,
}


DIGITS = Spec(
    {
        "image": Element((8, 8, 1), "uint8", 17, "image", "target"),
        "label": Element((), "int32", 10, "label", "condition"),
    }
)


def quality(row: str) -> list[Score]:
    """The made-up scores of a row."""
    out = []
    for (name, (better, criterion)), value in zip(NAMES.items(), QUALITY[row], strict=True):
        if value is not None:
            half = abs(value) * (0.03 if criterion != "controllability" else 0.012)
            protocol = {**SHARED, "metric": name}
            detail = {"sets": 5, "interval": "independent sets"}
            ends = (value - half, value + half)
            label = LABELS.get(name, ("", ""))
            out.append(Score(name, value, *ends, better, criterion, "", protocol, detail, *label))
    return out


def cost(row: str) -> list[Score]:
    """The made-up costs and likelihood of an entry."""
    params, flops, seconds, rate = COST[row]
    device = {"device": "cpu", "cores": 2}
    out = [
        Score("parameters", params, better="lower", criterion="cost"),
        Score("train_flops", flops, better="lower", criterion="cost", unit="FLOP/example"),
        Score("train_seconds", seconds, better="lower", criterion="cost", unit="s", protocol=device),
        Score("samples_per_second_1", rate / 9, None, None, "higher", "cost", "1/s", {**device, "batch": 1}),
        Score("samples_per_second_64", rate, None, None, "higher", "cost", "1/s", {**device, "batch": 64}),
        Score("sample_memory_64", rate * 9e4, None, None, "lower", "cost", "B", {**device, "batch": 64}),
    ]  # fmt: skip
    kind = {"ngram": "exact", "gpt": "exact", "vae": "bound", "diffusion": "bound"}.get(row)
    if kind:
        bits = {"ngram": 2.61, "gpt": 1.72, "vae": 2.33, "diffusion": 2.05}[row]
        name = f"bits_per_dim/{kind}"
        label = f"Bits per dimension ({kind})"
        ends = (bits - 0.03, bits + 0.03)
        out.append(Score(name, bits, *ends, "lower", "realism", "bits", SHARED, label=label))
    return out


def digits(rng: np.random.Generator, row: str, count: int = 200) -> dict[str, np.ndarray]:
    """Real digits, spoilt in a manner of the family."""
    data: Any = load_digits()
    order = rng.permutation(len(data.images))[:count]
    image, label = data.images[order].astype(float), data.target[order]
    if row == "ngram":
        image = np.apply_along_axis(rng.permutation, 2, image)
    if row == "vae":
        image = (image + np.roll(image, 1, 1) + np.roll(image, 1, 2)) / 3 * 1.3
    if row == "gan":
        image = image + rng.normal(0, 3, image.shape)
    found = {
        "image": np.clip(image.round(), 0, 16).astype(np.uint8)[..., None],
        "label": label.astype(np.int32),
    }
    return {"image": found["image"]} if row == "ngram" else found


def build_run(directory: Path, row: str, stage: str = "scored", seed: int = 0) -> Path:
    """A run directory as far as `stage`: training, sampled or scored."""
    rng = np.random.default_rng(seed)
    (directory / "samples").mkdir(parents=True)
    config = {
        "name": row, "seed": 0, "data": {"name": "digits", "batch": 128}, "model": {"name": row},
        "train": {"steps": 1200}, "sample": {"temperature": 1.0, "num": 900},
    }  # fmt: skip
    if row == "diffusion":
        config["sample"] = {"sampler": "ddim", "steps": 50, "guidance": 1.5}
    write_json(directory / "config.json", config)
    write_json(
        directory / "dataset.json", {"name": "digits", "fingerprint": "5e1f0c", "spec": to_json(DIGITS)}
    )
    players = ("generator", "critic") if row == "gan" else ("model",)
    with open(directory / "metrics.jsonl", "w") as file:
        for step in range(0, 0 if row == "ngram" else 1201, 5):
            noise = rng.normal(0, 0.03, 2)
            line: dict[str, Any] = {
                "step": step,
                "split": "train",
                "seconds": step / 20,
                "examples": step * 128,
            }
            for n, player in enumerate(players):
                base = 1.2 - 0.3 * n if row == "gan" else 0.6 + 2 * np.exp(-step / 150)
                line[f"{player}/loss"] = float(base + noise[n] * 3)
            file.write(json.dumps(line) + "\n")
            if step % 200 == 0 and row != "gan":
                held = {
                    "step": step,
                    "split": "eval",
                    "seconds": step / 20,
                    "model/loss": line["model/loss"] + 0.06,
                }
                file.write(json.dumps(held) + "\n")
    drawn = digits(rng, row)
    for step in (0, 400, 800, 1200) if row != "ngram" else ():
        noise = rng.integers(0, 17, drawn["image"].shape)
        mixed = np.where(rng.random(noise.shape) < step / 1200, drawn["image"], noise)
        _pixels.save(directory / "samples" / f"step_{step:08d}.png", mixed[:25], 17, 5)
    if stage != "training":
        np.savez(directory / "samples" / "samples.npz", allow_pickle=False, **drawn)
        real = digits(np.random.default_rng(9), "real", 40)["image"]
        distance = rng.uniform(3, 12, 40)
        np.savez(
            directory / "samples" / "neighbours.npz",
            element=np.asarray("image"),
            sample=drawn["image"][:40],
            neighbour=real,
            distance=distance,
        )
    if stage == "scored":
        evaluation.write(directory / "scores.json", [*quality(row), *cost(row)])
    return directory


def build(directory: Path, stages: dict[str, str] | None = None, floor: bool = True) -> Path:
    """A comparison of five families on digits; `stages` holds entries back ("waiting" for not begun)."""
    stages = stages or {}
    directory.mkdir(parents=True, exist_ok=True)
    for n, row in enumerate(FAMILIES):
        if stages.get(row, "scored") != "waiting":
            build_run(directory / row, row, stages.get(row, "scored"), n)
    if floor:
        (directory / "floor").mkdir()
        evaluation.write(directory / "floor" / "scores.json", quality("floor"))
    (directory / "real").mkdir()
    np.savez(
        directory / "real" / "samples.npz", allow_pickle=False, **digits(np.random.default_rng(7), "real")
    )
    about = {
        "name": "digits",
        "title": "Five families of generative model on real 8x8 digits",
        "dataset": "digits",
        "budget": {"kind": "seconds", "value": 60},
        "entries": {k: {"family": v, "run": k, "description": ""} for k, v in FAMILIES.items()},
        "floor": {"scores": "floor/scores.json"},
        "features": {
            "description": "small classifier, penultimate layer",
            "digest": "b71c22",
            "accuracy": 0.984,
        },
        "environment": {"python": "3.11.2", "jax": "0.10.2", "device": "cpu, 2 cores"},
        "command": "genjax compare --config=compare/digits",
    }
    write_json(directory / "compare.json", about)
    return directory


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def test_a_scored_run_is_read_whole(tmp_path: Path):
    run = runs.run(build_run(tmp_path / "gpt", "gpt"), "gpt", "GPT")
    assert (run.status, run.progress) == ("scored", (1200, 1200))
    assert run.spec == DIGITS
    assert run.examples == 1200 * 128
    assert run.options == {"temperature": 1.0, "num": 900}
    assert run.samples is not None
    assert run.samples["image"].shape == (200, 8, 8, 1)
    assert [step for step, _ in run.pictures()] == [0, 400, 800, 1200]
    assert run.scores is not None
    assert {s.name for s in run.scores} >= {"frechet", "bits_per_dim/exact", "parameters"}


@pytest.mark.parametrize("stage", ["training", "sampled"])
def test_a_run_is_read_as_far_as_it_goes(tmp_path: Path, stage: str):
    run = runs.run(build_run(tmp_path / "vae", "vae", stage))
    assert run.status == stage
    assert run.scores is None


def test_nothing_there_is_waiting(tmp_path: Path):
    assert runs.run(tmp_path / "later").status == "waiting"


def test_a_dataset_file_without_kinds_is_read_and_nothing_of_it_is_drawn(tmp_path: Path):
    directory = build_run(tmp_path / "vae", "vae")
    image = {"shape": [8, 8, 1], "dtype": "uint8", "levels": 17}
    write_json(directory / "dataset.json", {"name": "digits", "spec": {"elements": {"image": image}}})
    run = runs.run(directory)
    assert run.spec["image"].kind is None
    assert run.spec.targets == ()
    assert samples.samples(runs.Comparison(directory, {}, (run,), None, None)) is None


def test_a_failed_entry_is_neither_waiting_nor_scored(tmp_path: Path):
    directory = build(tmp_path / "failed", {"gan": "waiting"})
    about = json.loads((directory / "compare.json").read_text())
    about["entries"]["gan"]["error"] = "the loss is NaN at step 7"
    write_json(directory / "compare.json", about)
    gan = next(r for r in runs.comparison(directory).entries if r.name == "gan")
    assert (gan.status, gan.pending) == ("failed", False)
    assert gan.state == "failed: the loss is NaN at step 7"


def test_pictures_of_several_elements_are_kept_apart(tmp_path: Path):
    directory = tmp_path / "pair" / "samples"
    directory.mkdir(parents=True)
    for name in ("step_00000010_image_a", "step_00000010_image_b", "step_00000020_image_a", "final_image_2"):
        (directory / f"{name}.png").write_bytes(b"")
    run = runs.run(tmp_path / "pair")
    assert [(step, path.stem) for step, path in run.pictures("image_a")] == [
        (10, "step_00000010_image_a"),
        (20, "step_00000020_image_a"),
    ]
    assert len(run.pictures()) == 3


def test_a_line_being_written_is_left_out_and_a_corrupt_one_is_named(tmp_path: Path):
    directory = build_run(tmp_path / "vae", "vae")
    before = len(runs.run(directory).metrics)
    with open(directory / "metrics.jsonl", "a") as file:
        file.write('{"step": 1205, "spl')
    assert len(runs.run(directory).metrics) == before
    with open(directory / "metrics.jsonl", "a") as file:
        file.write("\n")
    with pytest.raises(DataError, match=rf"metrics\.jsonl, line {before + 1}"):
        runs.run(directory)


def read_all(directory: Path) -> list[Any]:
    run = runs.run(directory)
    return [run.spec, run.samples, run.captions, run.neighbours]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scores.json", b'[{"name": "frechet"'),
        ("scores.json", b'{"frechet": 3}'),
        ("scores.json", b'[{"value": 3}]'),
        ("config.json", b"{"),
        ("dataset.json", b'{"spec": {"elements": [1]}}'),
        ("samples/final_captions.json", b'{"a": 1}'),
        ("metrics.jsonl", b"[1]\n"),
        ("samples/samples.npz", b"PK not an archive"),
    ],
)
def test_a_broken_file_is_one_error_that_names_it(tmp_path: Path, name: str, content: bytes):
    directory = build_run(tmp_path / "vae", "vae")
    (directory / name).write_bytes(content)
    with pytest.raises(DataError, match=Path(name).name) as caught:
        read_all(directory)
    assert caught.value.hint
