"""The editor of rows by a diffusion: known values, measurements, conditions, programs that are shared."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import cli
from genjax.config import build as build_config
from genjax.core import Denoiser, Element, Model, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.functional import pixels, schedules
from genjax.models import diffusion
from genjax.sampling import editor as editors
from genjax.sampling.editor import Editor, How
from genjax.sampling.measurements import Blurred, Pooled
from genjax.workflows import editing

LABEL = Element((), "int32", 3, "label", "condition")
SPEC = Spec({"image": Element((8, 8, 1), "uint8", 256, "image", "target"), "label": LABEL}, rows=50)
PATH = schedules.straight
MEAN = np.linspace(-0.6, 0.6, 64, dtype=np.float32).reshape(1, 8, 8, 1)
SPREAD = 0.2


def denoise(variables, x, t, prompt):
    """E[x_0 | x_t] of independent pixels N(MEAN + label / 10, SPREAD^2)."""
    del variables
    alpha, sigma = (c.reshape(-1, 1, 1, 1) for c in PATH(t))
    mean = MEAN + prompt["label"].reshape(-1, 1, 1, 1) / 10.0
    return mean + alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * (x - alpha * mean)


def times(steps: int, spacing: schedules.Spacing | None = None) -> np.ndarray:
    return schedules.times(steps, 1000, spacing or "trailing", PATH)


DENOISER = Denoiser(
    lambda variables: PATH,
    denoise,
    lambda variables, b: (pixels.to_signed(b["image"], 256), {"label": b["label"]}),
    lambda variables, x, given: {"image": (x + 1.0) * 127.5},
    times,
    lambda given: {name: jnp.full_like(x, -1) for name, x in given.items()},
    shape=(8, 8, 1),
    limit=1.0,
)


CLASSIFIER = "--config.evaluate.features=classifier:digits/classifier:smoke"
PROGRAMS = (editors._drawn, editors._inverted, editors._returned, editors._read, editors._expected)


def editor() -> Editor:
    return Editor(DENOISER, Variables(), SPEC)


def rows(n: int = 12, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    x = MEAN + label.reshape(-1, 1, 1, 1) / 10.0 + SPREAD * rng.normal(size=(n, 8, 8, 1))
    return {
        "image": np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8),
        "label": label.astype(np.int32),
    }


def keys(n: int = 12) -> jax.Array:
    return row_keys(jax.random.key(0), 0, jnp.arange(n))


def test_known_pixels_are_kept_and_the_others_are_drawn():
    given = rows()
    mask = np.zeros((8, 8), np.float32)
    mask[:, :5] = 1.0
    made = editor().inpaint(given, jnp.asarray(mask), keys(), repeats=2)["image"]
    np.testing.assert_array_equal(made[:, :, :5], given["image"][:, :, :5])
    other = np.asarray(made)[:, :, 5:].astype(float) / 127.5 - 1
    mean = (MEAN + given["label"].reshape(-1, 1, 1, 1) / 10)[:, :, 5:]
    assert not np.array_equal(made[:, :, 5:], given["image"][:, :, 5:])
    assert abs((other - mean).mean()) < 0.03
    assert 0.14 < (other - mean).std() < 0.26


def test_a_larger_strength_changes_more_and_another_label_leads_elsewhere():
    given = rows()
    error = lambda x: np.abs(np.asarray(x["image"], float) - given["image"]).mean()
    made = [editor().vary(given, keys(), s) for s in (0.05, 0.4, 1.0)]
    assert error(made[0]) < error(made[1]) < error(made[2])
    label = {"label": jnp.full(12, 2)}
    brighter = editor().vary(given, keys(), 1.0, label=label)["image"]
    assert np.asarray(brighter, float).mean() > np.asarray(made[2]["image"], float).mean() + 5
    with pytest.raises(ConfigError, match=r"strength=0\.001"):
        editor().vary(given, keys(), 0.001)


@pytest.mark.parametrize("measure", [Pooled(2), Blurred(0.8)], ids=str)
def test_what_is_drawn_agrees_with_a_measurement(measure):
    given = rows()
    x_0, _ = editor().read(given)
    measured = measure(x_0)
    made = editor().restore(measured, measure, given, keys(), 0.4, How(steps=200, sampler="ddpm"))
    found = measure(pixels.to_signed(jnp.asarray(made["image"]), 256))
    plain = editor().vary(given, keys(), 1.0)
    other = measure(pixels.to_signed(jnp.asarray(plain["image"]), 256))
    assert float(jnp.abs(found - measured).mean()) < 0.35 * float(jnp.abs(other - measured).mean())


@pytest.mark.parametrize("measure", [Pooled(2), Blurred(0.7, smallest=0.0)], ids=str)
def test_a_measurement_of_its_pseudo_inverse_is_itself(measure):
    x = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
    y = measure(x)
    np.testing.assert_allclose(measure(measure.inverse(y)), y, atol=1e-4)
    # The inverse has the least norm: no image that gives y is smaller.
    assert float(jnp.square(measure.inverse(y)).sum()) <= float(jnp.square(x).sum()) * 1.001


def test_steering_raises_the_probability_it_follows():
    given = rows()
    goal = lambda targets: -0.5 * jnp.square(targets["image"].mean((1, 2, 3)) - 200.0) / 10.0**2
    means = [
        np.asarray(editor().steer(goal, given, keys(), s)["image"], float).mean() for s in (0.0, 0.5, 2.0)
    ]
    assert means[0] < means[1] < means[2] <= 205


def test_a_path_begins_and_ends_at_its_rows():
    given = rows()
    first = {k: x[:6] for k, x in given.items()}
    second = {k: x[6:] for k, x in given.items()}
    made = editor().between(first, second, 5, How(steps=400))["image"]
    path = np.asarray(made, float).reshape(6, 5, 8, 8, 1)
    assert np.abs(path[:, 0] - first["image"]).mean() < 4
    assert np.abs(path[:, -1] - second["image"]).mean() < 4
    assert np.abs(path[:, 2] - first["image"]).mean() > 8


def test_a_second_call_compiles_nothing():
    e = editor()
    mask = jnp.zeros((8, 8)).at[:4].set(1.0)
    goal = lambda targets: -targets["image"].mean((1, 2, 3))

    def every(seed: int) -> None:
        given = rows(seed=seed)
        k = row_keys(jax.random.key(seed), 0, jnp.arange(12))
        how = How(steps=6)
        e.inpaint(given, mask, k, 2, how)
        e.vary(given, k, 0.5, how)
        e.restore(Pooled(2)(e.read(given)[0]), Pooled(2), given, k, how=how)
        e.steer(goal, given, k, how=how)
        e.between(given, given, 3, how)

    every(0)
    programs = [f._cache_size() for f in PROGRAMS]
    every(1)
    assert [f._cache_size() for f in PROGRAMS] == programs


@functools.cache
def trained_model() -> tuple[Model, Variables]:
    fields = {"width": 8, "multipliers": (1,), "blocks": 1, "timesteps": 40, "groups": 4}
    model = diffusion.build(build_config(diffusion.Config, fields), SPEC)
    batch = {**{k: jnp.asarray(x) for k, x in rows(2).items()}, "mask": jnp.ones(2)}
    return model, jax.jit(lambda k: model.init(k, batch, {}))(jax.random.key(0))


def test_the_denoiser_of_a_model_reads_what_it_writes():
    model, variables = trained_model()
    e = Editor.of(model, variables, SPEC)
    given = rows(4)
    x_0, label = e.read(given)
    np.testing.assert_array_equal(e.decode(x_0, label)["image"], given["image"])
    np.testing.assert_array_equal(label["label"], given["label"])
    drawn = e.vary(given, keys(4), 0.5, How(steps=4))
    assert drawn["image"].shape == (4, 8, 8, 1)
    with pytest.raises(ConfigError, match="no diffusion"):
        Editor.of(model.replace(denoiser=None), variables, SPEC)
    with pytest.raises(ConfigError, match="does not fit"):
        e.inpaint(given, jnp.ones((5, 8)), keys(4))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("edit") / "run"
    assert cli.main(["train", "--config=digits/diffusion:smoke", f"--dir={directory}", CLASSIFIER]) == 0
    return directory


@pytest.mark.parametrize(
    ("verb", "given"),
    [
        ("inpaint", ["--edit.hole=left", "--edit.draws=2", "--edit.repeats=2"]),
        ("outpaint", ["--edit.draws=1", "--edit.repeats=1", "--edit.label=3"]),
        ("vary", ["--edit.strengths=(0.3,0.9)", "--edit.guidance=2.0"]),
        ("restore", ["--edit.measure=deblur"]),
        ("restore", ["--edit.factor=4", "--edit.noise=0"]),
        ("interpolate", ["--edit.points=3"]),
        ("steer", ["--edit.towards=3", "--edit.scales=(0.0,2.0)"]),
    ],
    ids=str,
)
def test_every_verb_writes_a_picture(run, capsys, monkeypatch, tmp_path, verb: str, given: list[str]):
    monkeypatch.chdir(tmp_path)
    steps = ["--edit.steps=4", "--edit.rows=(0,1,2)"]
    assert cli.main(["edit", verb, str(run), *steps, *given]) == 0
    assert (run / "edit" / f"{verb}.png").exists()
    said = capsys.readouterr().out
    assert verb != "inpaint" or "known values equal the rows'" in said
    assert editing.FOLDER in said
    assert "edit" in (run / "report.html").read_text()


def test_a_mask_and_an_image_of_ones_own(run, tmp_path, capsys):
    from PIL import Image

    Image.new("L", (20, 20), 200).save(tmp_path / "me.png")
    hole = Image.new("L", (8, 8), 0)
    hole.paste(255, (0, 0, 4, 8))
    hole.save(tmp_path / "hole.png")
    args = ["edit", "inpaint", str(run), "--edit.steps=4", f"--edit.input={tmp_path / 'me.png'}"]
    assert cli.main([*args, f"--edit.mask={tmp_path / 'hole.png'}"]) == 0
    assert "50% of 1 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "given", "says"),
    [
        ("inpaint", ["--edit.hol=left"], "edit.hol"),
        ("inpaint", ["--edit.hole=middle"], "hole"),
        ("inpaint", ["--edit.mask=nothing.png"], "edit.mask=nothing.png: no such file"),
        ("outpaint", ["--edit.margin=0.5"], "margin=0.5"),
        ("vary", ["--edit.strengths=(1.5,)"], "strengths"),
        ("vary", ["--edit.label=12"], "label=12"),
        ("vary", ["--edit.rows=(5000,)"], "edit.rows=(5000,)"),
        ("steer", ["--edit.guidance=2"], "edit.guidance=2"),
        ("restore", ["--edit.factor=3"], "factor=3"),
        ("restore", ["--edit.std=2"], "std has no effect"),
        ("restore", ["--edit.measure=deblur", "--edit.factor=4"], "factor has no effect"),
        ("inpaint", ["--edit.mask=a.png", "--edit.hole=left"], "hole has no effect"),
        ("interpolate", ["--edit.seed=1"], "edit.seed"),
        ("steer", ["--edit.towards=10"], "towards=10"),
        ("interpolate", ["--edit.rows=(1,)"], "two rows"),
        ("interpolate", ["--edit.guidance=2"], "guidance"),
        ("vary", ["--edit.sampler=heum"], "did you mean 'heun'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(run, capsys, verb: str, given: list[str], says: str):
    steps = [] if any("steps" in g for g in given) else ["--edit.steps=4"]
    assert cli.main(["edit", verb, str(run), *steps, *given]) == (3 if "no such" in says else 2)
    assert says in capsys.readouterr().err


def test_other_models_are_refused(tmp_path, capsys):
    directory = tmp_path / "vae"
    assert cli.main(["train", "--config=digits/vae:smoke", f"--dir={directory}"]) == 0
    assert cli.main(["edit", "vary", str(directory)]) == 2
    assert "no diffusion" in capsys.readouterr().err
