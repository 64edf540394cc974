"""Generators as functions of codes: kernels, directions, mixing, inversion, and the verbs on a run."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import cli, latents
from genjax.core import Element, Generator, Model, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.latents import Synthesis
from genjax.models.gan import Config, build

LABEL = Element((), "int32", 3, "label", "condition")
SPEC = Spec({"image": Element((8, 8, 1), "uint8", 256, "image", "target"), "label": LABEL}, rows=50)
# Codes of more dimensions than the layers that read them have outputs.
NETWORKS = {
    "dcgan": (300, {"name": "dcgan", "width": 8}),
    "mlp": (16, {"name": "mlp", "width": 8, "depth": 1}),
    "r3gan": (16, {"name": "r3gan", "width": 4, "widest": 8, "blocks": 1}),
    "resnet": (160, {"name": "resnet", "width": 4, "widest": 8}),
    "biggan": (200, {"name": "resnet", "width": 4, "widest": 8, "skip": True, "shared": 3}),
    "stylegan2": (8, {"name": "stylegan2", "width": 4, "widest": 4, "style": 24, "layers": 2}),
}


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


@functools.cache
def made(name: str, **fields) -> tuple[Model, Variables]:
    latent, network = NETWORKS[name]
    model = build(Config(network=network, latent=latent, **fields), SPEC)
    rows = {
        "image": jnp.zeros((2, 8, 8, 1), jnp.uint8),
        "label": jnp.zeros(2, jnp.int32),
        "mask": jnp.ones(2),
    }
    variables = jax.jit(lambda key: model.init(key, rows, {}))(jax.random.key(1))
    # Biases and scales that are zero at first would hide what reads a code.
    shaken = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(2), x.shape), variables.params)
    return model, variables.replace(params=shaken)


def synthesis(name: str) -> Synthesis:
    model, variables = made(name)
    return Synthesis.of(model, variables, SPEC)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_kernels_are_all_that_reads_a_code(name: str):
    """A code moved within the null space of its kernel changes nothing; in another direction it does."""
    s = synthesis(name)
    codes, given = s.draw(keys(3), {})
    kernels = s.generator.kernels(s.variables)
    assert len(kernels) == codes.shape[1] == s.layers
    before = s.expected(codes, given)["image"]
    for layer, kernel in enumerate(kernels):
        assert kernel.shape[0] == codes.shape[2]
        u, values, _ = np.linalg.svd(np.asarray(kernel))
        assert u.shape[0] > len(values), "the test needs a null space"
        hidden = s.expected(codes.at[:, layer].add(jnp.asarray(u[:, -1])), given)["image"]
        np.testing.assert_allclose(hidden, before, atol=2e-3)
        seen = s.expected(codes.at[:, layer].add(jnp.asarray(u[:, 0])), given)["image"]
        assert float(jnp.abs(seen - before).max()) > 1e-2


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_decoding_a_draw_is_sampling(name: str):
    """But for the noise within the network, which has no weight in this run."""
    model, variables = made(name)
    if name == "stylegan2":
        silent = lambda path, x: 0 * x if jax.tree_util.keystr(path).endswith("'noise']") else x
        variables = variables.replace(params=jax.tree_util.tree_map_with_path(silent, variables.params))
    s = Synthesis.of(model, variables, SPEC)
    codes, given = s.draw(keys(4), {})
    assert model.sample is not None
    drawn = model.sample(variables, keys(4), {})
    assert np.array_equal(drawn["label"], given["label"])
    gap = np.abs(np.asarray(s.decode(codes, given)["image"], int) - np.asarray(drawn["image"], int))
    assert gap.max() <= 1  # one program, or two: rounding may differ at a half
    assert set(np.asarray(s.draw(keys(4), {"label": jnp.full(4, 2)})[1]["label"])) == {2}


def test_directions_are_those_that_the_kernels_change_the_most():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 30)) * np.array([1.0, 5.0, 1.0, 2.0, 1.0])[:, None]
    found, values = latents.directions([jnp.asarray(kernel[:, :12]), jnp.asarray(kernel[:, 12:])], 2)
    unit = kernel / np.linalg.norm(kernel, axis=0)
    u, singular, _ = np.linalg.svd(unit)
    np.testing.assert_allclose(values, singular[:2] ** 2, rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.asarray(found) @ u[:, :2]), np.eye(2), atol=1e-3)
    assert np.abs(found[0]).argmax() == 1
    assert np.asarray(found[0]).max() > 0.9
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=1), 1.0, rtol=1e-5)


def test_only_chosen_layers_are_moved_and_mixed():
    a = jnp.zeros((2, 3, 4))
    moved = latents.moved(a, jnp.arange(4.0), jnp.asarray([-1.0, 2.0]), [1])
    assert moved.shape == (2, 2, 3, 4)
    assert np.array_equal(moved[0, 1, 1], 2 * np.arange(4.0))
    assert not np.asarray(moved[:, :, [0, 2]]).any()
    b = jnp.ones((5, 3, 4))
    mixed = latents.mixed(a, b, [0, 2])
    assert mixed.shape == (2, 5, 3, 4)
    assert np.asarray(mixed[:, :, [0, 2]]).all()
    assert not np.asarray(mixed[:, :, 1]).any()


@pytest.mark.parametrize("per_layer", [True, False])
def test_a_row_that_the_generator_draws_is_found_again(per_layer: bool):
    """A linear generator of points with two layers: the row is met, and never worse than the best draw."""
    maps = jax.random.normal(jax.random.key(0), (2, 3, 3))
    spec = Spec({"point": Element((3,), "float32", None, "point", "target")})
    generator = Generator(
        draw=lambda v, k, p: (
            jnp.repeat(jax.vmap(lambda x: jax.random.normal(x, (1, 3)))(k), 2, 1),
            {},
        ),
        mean=lambda v: jnp.zeros(3),
        expected=lambda v, z, given: {"point": jnp.einsum("blw,lwd->bd", z, maps)},
        kernels=lambda v: list(maps),
    )
    s = Synthesis(generator, Variables(), spec)
    codes, _ = s.draw(keys(4, 70), {})
    rows = s.decode(codes, {})
    distance = latents.squared_error(s, rows)
    draws = jnp.stack([keys(4, i) for i in range(20)])
    begin, lowest = latents.nearest(s, distance, draws, {})
    np.testing.assert_allclose(distance(s.expected(begin, {})), lowest, rtol=1e-4)
    each = jnp.stack([distance(s.expected(s.draw(k, {})[0], {})) for k in draws])
    np.testing.assert_allclose(lowest, each.min(0), rtol=1e-4)
    found, losses = latents.inverted(s, distance, begin, {}, per_layer=per_layer, steps=600)
    assert losses.shape == (600, 4)
    assert float(distance(s.expected(found, {})).max()) < 1e-3 < float(lowest.mean())
    assert per_layer or np.array_equal(found[:, 0], found[:, 1])


def test_truncation_moves_codes_towards_the_mean():
    s = synthesis("stylegan2")
    mean = s.variables.state["generator"]["style"]
    s = Synthesis(
        s.generator,
        s.variables.replace(state={**s.variables.state, "generator": {"style": jnp.ones_like(mean)}}),
        SPEC,
    )
    codes, _ = s.draw(keys(2), {})
    np.testing.assert_allclose(s.towards_mean(codes, 0.25), 0.75 + 0.25 * codes, rtol=1e-5)


def test_a_model_without_a_generator_is_refused():
    with pytest.raises(ConfigError, match="no generator"):
        Synthesis.of(Model(init=lambda *a: Variables(), phases={}), Variables(), SPEC)


STYLES = "model.network={'name': 'stylegan2', 'width': 4, 'widest': 8, 'style': 8, 'layers': 2}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("synthesis") / "gan"
    quiet = ("train.tensorboard=False", "train.progress=False", "train.sample_every=0", STYLES)
    command = ["train", "--config=digits/gan:smoke", f"--dir={directory}"]
    assert cli.main([*command, *(f"--config.{field}" for field in quiet)]) == 0
    return directory


@pytest.mark.parametrize(
    ("verb", "options", "size"),
    [
        ("project", ["rows=(0,1)", "steps=3", "draws=3"], (2, 3)),
        ("project", ["rows=(0,1)", "steps=3", "draws=3", "per_layer=False", "label=3"], (2, 3)),
        ("mix", ["rows=2", "columns=3", "layers=(0,)", "truncation=0.7"], (4, 3)),
        ("factors", ["rows=2", "directions=3", "steps=5"], (5, 6)),
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
        width, height = picture.size
    columns, lines = size
    gap = 2
    assert (width + gap) % columns == (height + gap) % lines == 0
    assert (width + gap) // columns == (height + gap) // lines
    assert 'id="latent"' in (run / "report.html").read_text()


def test_pictures_of_ones_own_are_projected(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from PIL import Image

    for n in range(3):
        Image.new("L", (8, 8), 80 * n).save(tmp_path / f"{n}.png")
    options = [f"input={tmp_path}", "steps=3", "draws=3"]
    assert cli.main(["latent", "project", str(run), *(f"--latent.{option}" for option in options)]) == 0
    with Image.open(run / "latent" / "project.png") as picture:
        assert (picture.width + 2) // 3 == (picture.height + 2) // 3
    assert "mean squared error" in capsys.readouterr().out
    assert cli.main(["latent", "project", str(run), "--latent.input=/no/such"]) == 3
    assert "latent.input=/no/such: no such file" in capsys.readouterr().err


def test_a_curve_scores_each_value_and_leaves_the_scores_of_the_run(
    run: Path, monkeypatch: pytest.MonkeyPatch
):
    import json

    from genjax.workflows import evaluate
    from genjax.workflows.exploring import Work

    pixels = lambda work: evaluate.features("pixels", work.dataset, run / "features")
    monkeypatch.setattr(Work, "classifier", pixels)
    options = ["values=(0.5,1.0)", "samples=32"]
    assert cli.main(["latent", "curve", str(run), *(f"--latent.{option}" for option in options)]) == 0
    table = json.loads((run / "latent" / "curve.json").read_text())
    assert [row["truncation"] for row in table] == [0.5, 1.0]
    assert {"precision", "recall", "frechet"} <= set(table[0])
    assert (run / "latent" / "curve.png").exists()
    assert not (run / "scores.json").exists()


@pytest.mark.parametrize(
    ("verb", "option", "says"),
    [
        ("mix", "layers=(99,)", "the generator has layers 0 to"),
        ("factors", "directions=99", "codes have 8 dimensions"),
        ("project", "rows=(99999,)", "held-out split has rows 0 to"),
        ("project", "label=10", "latent.label=10: the model has 10 classes"),
        ("curve", "option=truncatoin", "is no option of this model's sampler"),
        ("curve", "values=(-1.0,)", "values"),
        ("interpolate", "steps=3", "GANs have project, mix"),
    ],
)
def test_what_a_verb_cannot_do_is_refused_by_name(verb: str, option: str, says: str, run: Path, capsys):
    assert cli.main(["latent", verb, str(run), f"--latent.{option}"]) == 2
    assert says in capsys.readouterr().err
