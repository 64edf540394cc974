"""Tools of the latent space: paths, traversals, edits, searches and maps, on a linear codec and on runs."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import cli, latents
from genjax.core import Batch, Codec, Element, Model, Spec, Variables
from genjax.errors import ConfigError
from genjax.evaluation.metrics.active_units import active
from genjax.latents.space import Space

LABEL = Element((), "int32", 3, "label", "condition")
SPEC = Spec({"image": Element((2, 2, 1), "uint8", 256, "image", "target"), "label": LABEL})


def linear(spec: Spec = SPEC, levels: int | None = None, gradient: bool = True) -> Model:
    """A codec whose code is the image around 100, in steps of ten; a label shifts what is decoded."""

    def encode(variables: Variables, batch: Batch, keys: jax.Array | None = None) -> Batch:
        codes = (jnp.float32(batch["image"]).reshape(-1, 4) - 100.0) / 10
        return {"code": codes.astype(jnp.int32) if levels else codes, "label": batch["label"]}

    def expected(variables: Variables, codes: Batch) -> Batch:
        shift = jnp.float32(codes["label"])[:, None]
        return {"image": (codes["code"] * 10 + 100 + shift).reshape(-1, 2, 2, 1)}

    def decode(variables: Variables, codes: Batch) -> Batch:
        image = jnp.clip(jnp.round(expected(variables, codes)["image"]), 0, 255)
        return {"image": image.astype(jnp.uint8), "label": codes["label"]}

    code = Element((4,), "float32", levels, role="target")
    codec = Codec(
        encode,
        decode,
        lambda s: Spec({"code": code, "label": LABEL}),
        expected=expected if gradient else None,
    )
    return Model(init=lambda *a: Variables(), phases={}, codec=codec)


def space(**how) -> Space:
    return Space.of(linear(**how), Variables(), SPEC)


def rows(*values: int, label: int = 0) -> Batch:
    image = np.stack([np.full((2, 2, 1), v, np.uint8) for v in values])
    return {"image": image, "label": np.full(len(values), label, np.int32)}


def test_a_model_without_real_valued_codes_is_refused():
    with pytest.raises(ConfigError, match="no codec"):
        Space.of(Model(init=lambda *a: Variables(), phases={}), Variables(), SPEC)
    with pytest.raises(ConfigError, match="whole numbers have no directions"):
        space(levels=9)
    with pytest.raises(ConfigError, match="no gradient"):
        latents.matching(space(gradient=False), rows(3))


@pytest.mark.parametrize("path", ["slerp", "lerp"])
def test_a_path_begins_and_ends_at_its_rows(path: latents.Path):
    a, b = jax.random.normal(jax.random.key(0), (2, 5, 3, 2))
    points = latents.along(a, b, jnp.linspace(0.0, 1.0, 7), path)
    assert points.shape == (5, 7, 3, 2)
    np.testing.assert_allclose(points[:, 0], a, atol=1e-5)
    np.testing.assert_allclose(points[:, -1], b, atol=1e-5)


def test_a_slerp_keeps_the_norm_where_a_line_does_not():
    a = jnp.asarray([[3.0, 0.0]])
    b = jnp.asarray([[0.0, 3.0]])
    t = jnp.linspace(0.0, 1.0, 5)
    np.testing.assert_allclose(jnp.linalg.norm(latents.along(a, b, t), axis=-1), 3.0, rtol=1e-5)
    assert float(jnp.linalg.norm(latents.along(a, b, t, "lerp"), axis=-1).min()) < 2.2
    # Equal angles: a quarter of the right angle at each step.
    angles = jnp.arctan2(*latents.along(a, b, t)[0].T[::-1])
    np.testing.assert_allclose(angles, np.linspace(0, np.pi / 2, 5), atol=1e-5)
    # The same direction and the zero code have no great circle, and no NaN.
    np.testing.assert_allclose(latents.along(a, 2 * a, t)[0, 2], [4.5, 0.0], rtol=1e-5)
    assert np.isfinite(latents.along(a, 0 * a, t)).all()


def test_interpolated_rows_lie_between_and_take_the_condition_of_the_nearer_end():
    first, second = rows(100, 120), rows(140, 200, label=2)
    found = latents.interpolate(space(), first, second, 5, "lerp")["image"]
    middle = np.asarray(found).reshape(2, 5, 4)[:, :, 0]
    assert middle.tolist() == [[100, 110, 122, 132, 142], [120, 140, 162, 182, 202]]


def test_a_traversal_moves_one_dimension_of_the_code():
    codes = jnp.asarray(np.random.default_rng(0).normal(size=(50, 4)) * [1, 3, 0, 2], jnp.float32)
    dims = latents.widest(codes, 2)
    assert dims.tolist() == [1, 3]
    found = latents.traverse(space(), rows(150), codes, dims, 3, span=1.0)["image"]
    image = np.asarray(found).reshape(2, 3, 4).astype(float)
    assert (image[0][:, [0, 2, 3]] == 150).all()
    assert (image[1][:, [0, 1, 2]] == 150).all()
    spread = np.asarray(codes.std(0)) * 10
    np.testing.assert_allclose(np.diff(image[0][:, 1]), spread[1], atol=1)
    np.testing.assert_allclose(np.diff(image[1][:, 3]), spread[3], atol=1)


def classes_of_codes(rows: int = 400, dims: int = 3):
    """(codes of two classes with means and covariances of their own, values); class 1 does not occur."""
    rng = np.random.default_rng(0)
    parts = [
        rng.normal(size=(rows, dims)) @ rng.normal(size=(dims, dims)) + rng.normal(size=dims) * 3
        for _ in range(2)
    ]
    values = jnp.repeat(jnp.asarray([0, 2]), rows)
    return jnp.asarray(np.concatenate(parts), jnp.float32), values


@pytest.mark.parametrize("dims", [3, latents.edits.LARGEST + 1])
def test_edited_codes_have_the_mean_and_covariance_of_the_new_value(dims: int):
    codes, values = classes_of_codes(dims=dims)
    found = latents.moments(codes, values, 3)
    ones = jnp.ones(400, jnp.int32)
    moved = latents.edited(codes[:400], found, 0 * ones, 2 * ones)
    there = np.asarray(codes[400:])
    np.testing.assert_allclose(moved.mean(0), there.mean(0), atol=1e-3 * np.abs(there).max())
    np.testing.assert_allclose(np.std(moved, 0), there.std(0), rtol=0.03)
    if dims == 3:
        correlation = lambda x: np.corrcoef(np.asarray(x).T)
        np.testing.assert_allclose(correlation(moved), correlation(there), atol=0.03)
    half = latents.edited(codes[:400], found, 0 * ones, 2 * ones, strength=0.5)
    np.testing.assert_allclose(half, (codes[:400] + moved) / 2, rtol=1e-4, atol=1e-4)
    same = latents.edited(codes[:400], found, 0 * ones, 0 * ones)
    np.testing.assert_allclose(same, codes[:400], rtol=1e-6)


def test_an_edit_moves_no_farther_than_needed():
    """The map is symmetric and positive: the gradient of a convex function, hence optimal (Brenier)."""
    codes, values = classes_of_codes()
    found = latents.moments(codes, values, 3)
    place = lambda x: latents.edited(x[None], found, jnp.asarray([0]), jnp.asarray([2]))[0]
    slope = jax.jacfwd(place)(codes[0])
    np.testing.assert_allclose(slope, slope.T, atol=1e-4)
    assert float(jnp.linalg.eigvalsh(slope).min()) > 0


def test_a_value_that_occurs_once_moves_codes_by_no_more_than_they_vary():
    codes, values = classes_of_codes()
    values = values.at[0].set(1)
    found = latents.moments(codes, values, 3)
    moved = latents.edited(codes[1:100], found, jnp.ones(99, jnp.int32), jnp.full(99, 2))
    assert float(jnp.abs(moved).max()) < 4 * float(jnp.abs(codes).max())


def test_a_value_that_does_not_occur_has_the_gaussian_of_all_codes():
    codes, values = classes_of_codes()
    found = latents.moments(codes, values, 3)
    np.testing.assert_allclose(found.mean[1], codes.mean(0), rtol=1e-4, atol=1e-5)


def test_a_search_finds_the_code_and_never_returns_a_worse_one():
    target = jnp.asarray([[1.0, -2.0], [0.5, 0.0]])
    objective = lambda z: jnp.square(z - target).sum(-1)
    best, losses = latents.search(objective, jnp.zeros((2, 2)), 400, 0.05)
    np.testing.assert_allclose(best, target, atol=1e-2)
    assert losses.shape == (400, 2)
    # A step that is far too large leads away: the code that it began with is returned.
    worse, _ = latents.search(objective, target, 5, 100.0)
    np.testing.assert_array_equal(worse, target)


def test_a_row_is_matched_and_a_class_is_found():
    s = space()
    wanted = rows(180, 40)
    found, _ = latents.search(latents.matching(s, wanted), jnp.zeros((2, 4)), 800, 0.1)
    np.testing.assert_allclose(s.decode(found, wanted)["image"], wanted["image"], atol=1)
    # Class 1 is a bright image.
    logits = lambda batch: jnp.stack(
        [0 * batch["image"].mean((1, 2, 3)), batch["image"].mean((1, 2, 3)) - 150], 1
    )
    objective = latents.maximising(s, wanted, logits, jnp.asarray([1, 1]))
    found, _ = latents.search(objective, s.encode(rows(120, 140)), 300, 0.1)
    assert (np.asarray(s.decode(found, wanted)["image"]).mean((1, 2, 3)) > 150).all()


def test_principal_components_are_those_of_the_covariance():
    x = np.random.default_rng(0).normal(size=(300, 5)) * [5, 3, 1, 0.5, 0.1]
    points, share = latents.principal(x)
    assert points.shape == (300, 2)
    spread = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    np.testing.assert_allclose(points.var(0, ddof=1), spread[:2], rtol=1e-6)
    np.testing.assert_allclose(share, spread[:2] / spread.sum(), rtol=1e-6)
    line, _ = latents.principal(x[:, :1])
    assert line.shape == (300, 2)
    assert (line[:, 1] == 0).all()


def test_a_collapsed_posterior_has_no_active_unit():
    codes = np.random.default_rng(0).normal(size=(500, 4)) * [1.0, 0.2, 0.05, 0.0]
    assert active(codes) == 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("latents") / "vae"
    quiet = ("train.tensorboard=False", "train.progress=False", "train.sample_every=0")
    command = ["train", "--config=digits/vae:smoke", f"--dir={directory}"]
    assert cli.main([*command, *(f"--config.{field}" for field in quiet)]) == 0
    return directory


@pytest.mark.parametrize(
    ("verb", "options", "size"),
    [
        ("interpolate", ["rows=(0,1,2)", "steps=4"], (4, 2)),
        ("interpolate", ["rows=(0,1)", "steps=4", "path=rows"], (4, 1)),
        ("traverse", ["dimensions=3", "steps=5"], (5, 3)),
        ("edit", ["rows=(0,1)", "values=(3,4,5)"], (3, 2)),
        ("search", ["rows=(0,1)", "steps=3"], (2, 3)),
    ],
)
def test_a_verb_writes_its_picture(
    verb: str, options: list[str], size: tuple[int, int], run: Path, capsys: pytest.CaptureFixture[str]
):
    from PIL import Image

    assert cli.main(["latent", verb, str(run), *(f"--latent.{option}" for option in options)]) == 0
    path = run / "latent" / f"{verb}.png"
    assert str(path) in capsys.readouterr().out
    with Image.open(path) as picture:
        # Tiles of one size with a gap of two pixels between them.
        width, height = picture.size
    columns, lines = size
    gap = 2
    assert (width + gap) % columns == (height + gap) % lines == 0
    assert (width + gap) // columns == (height + gap) // lines
    assert 'id="latent"' in (run / "report.html").read_text()


def test_a_map_is_coloured_by_label(run: Path):
    from PIL import Image

    assert cli.main(["latent", "map", str(run), "--latent.rows=100"]) == 0
    with Image.open(run / "latent" / "map.png") as picture:
        assert len(picture.convert("RGB").getcolors() or ()) > 8


@pytest.mark.parametrize(
    ("verb", "option", "says"),
    [
        ("traverse", "stepz=3", "stepz"),
        ("interpolate", "rows=(0,99999)", "held-out split has rows 0 to"),
        ("interpolate", "rows=(1,)", "a path needs two rows"),
        ("edit", "attribute=colour", "is no attribute of the data"),
        ("edit", "values=(12,)", "has values below 10"),
        ("search", "label=12", "classes below 10"),
        ("traverse", "span=-1", "span"),
    ],
)
def test_what_a_verb_cannot_do_is_refused_by_name(
    verb: str, option: str, says: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    from genjax.workflows.exploring import Work

    monkeypatch.setattr(Work, "classifier", lambda work: type("F", (), {"logits": None}))
    assert cli.main(["latent", verb, str(run), f"--latent.{option}"]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", ["digits/vae", "digits/flow"])
def test_what_is_expected_rounds_to_what_is_decoded(name: str):
    from genjax import settings
    from genjax.workflows import assemble

    e = assemble.assemble(settings.complete(settings.load(f"{name}:smoke")))
    batch = {k: jnp.asarray(v) for k, v in e.dataset.train.stream(batch=8)[0].items()}
    variables = jax.jit(lambda key: e.model.init(key, batch, {}))(jax.random.key(0))
    s = Space.of(e.model, variables, e.dataset.spec)
    codes = s.encode(batch) + 0.1
    levels = e.dataset.spec["image"].levels or 0
    found = jax.jit(s.expected)(codes, batch)["image"]
    rounded = jnp.clip(jnp.floor(found + 0.5), 0, levels - 1)
    wrong = (rounded != s.decode(codes, batch)["image"]).mean()
    assert float(wrong) < 0.01, "halves may be rounded either way"
    slope = jax.jit(jax.grad(lambda z: s.expected(z, batch)["image"].sum()))(codes)
    assert float(jnp.abs(slope).max()) > 0
