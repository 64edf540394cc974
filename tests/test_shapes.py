"""Rendered shapes: rows are functions of their number, factors show in the pixels, captions name them."""

from __future__ import annotations

import numpy as np
import pytest

from genjax import kinds
from genjax.data import load
from genjax.data.sources import shapes
from genjax.errors import DataError


@pytest.fixture(scope="module")
def scenes():
    return load(name="shapes", tokenizer="words", length=16)


@pytest.fixture(scope="module")
def sprites():
    return load(name="shapes:sprites")


def test_rows_are_functions_of_their_number(scenes, sprites):
    for data in (scenes, sprites):
        whole = data.train.rows(range(20))
        part = data.train.rows([7, 3])
        for name, x in part.items():
            np.testing.assert_array_equal(x, whole[name][[7, 3]])
        again = load(data.config).train.rows([7, 3])
        np.testing.assert_array_equal(again["image"], part["image"])


def test_no_combination_is_in_both_parts_of_the_scenes(scenes):
    train, held = scenes.train.source.order, scenes.eval.source.order
    assert len(np.intersect1d(train, held)) == 0
    assert len(np.unique(train)) == len(train) == 60_000
    assert len(scenes.eval) == 5_000


def test_the_sprites_have_every_combination_once(sprites):
    assert len(sprites.train) == 737_280
    np.testing.assert_array_equal(np.sort(sprites.train.source.order), np.arange(737_280))
    assert sprites.spec["image"].levels == 2
    assert sprites.spec.factors == ("shape", "scale", "rotation", "column", "line")
    assert sprites.spec.label is None
    values = sprites.train.rows(range(4000))
    for name in sprites.spec.factors:
        assert set(values[name]) == set(range(sprites.spec[name].levels))


def moved(**changes: int) -> tuple[np.ndarray, np.ndarray]:
    """The same sprite before and after a change of one factor."""
    base = {"shape": 0, "scale": 3, "rotation": 0, "column": 16, "line": 16}
    both = {k: np.array([v, changes.get(k, v)]) for k, v in base.items()}
    first, second = shapes.sprites(both, 64)[..., 0].astype(float)
    return first, second


def centre(image: np.ndarray) -> np.ndarray:
    return np.argwhere(image > 0).mean(0)


def test_factors_of_sprites_do_what_they_say():
    a, b = moved(column=26)
    assert centre(b)[1] - centre(a)[1] > 5
    assert abs(centre(b)[0] - centre(a)[0]) < 0.5
    a, b = moved(line=26)
    assert centre(b)[0] - centre(a)[0] > 5
    a, b = moved(scale=5)
    assert b.sum() > 1.3 * a.sum()
    a, b = moved(rotation=5)
    assert (a != b).sum() > 20
    assert abs(a.sum() - b.sum()) < 0.1 * a.sum()
    a, b = moved(shape=2)
    assert (a != b).sum() > 20


def test_no_sprite_is_cut_at_the_border():
    corners = {k: np.array(v) for k, v in {"column": [0, 31] * 60, "line": ([0] * 2 + [31] * 2) * 30}.items()}
    turns = np.repeat(np.arange(0, 40, 4), 12)
    values = {**corners, "scale": np.full(120, 5), "rotation": turns, "shape": np.tile([0, 1, 2], 40)}
    image = shapes.sprites(values, 64)[..., 0]
    edges = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], 1)
    assert edges.sum() == 0
    assert (image.reshape(120, -1).sum(1) > 50).all()


def test_scenes_show_their_colours_and_captions_name_them(scenes):
    rows = scenes.train.rows(range(300))
    for i in range(300):
        image = rows["image"][i].reshape(-1, 3).astype(int)
        ground = list(shapes.BACKGROUNDS.values())[rows["background"][i]]
        colour = list(shapes.COLOURS.values())[rows["colour"][i]]
        assert (image == ground).all(1).mean() > 0.4
        # The smallest tips are never a whole pixel of their colour.
        assert np.abs(image - colour).max(1).min() < 60
        text = scenes.tokenizer.decode(rows["caption"][i][rows["caption_mask"][i] > 0])
        value = {k: int(rows[k][i]) for k in shapes.FACTORS}
        assert text.split() == shapes.caption(value).split()
    assert "<unk>" not in scenes.tokenizer.decode(rows["caption"][rows["caption_mask"] > 0])
    assert kinds.of(scenes.spec["caption"]) is not None


def test_more_shapes_cover_more(scenes):
    rows = scenes.train.rows(range(2000))
    grounds = np.array(list(shapes.BACKGROUNDS.values()))[rows["background"]]
    covered = (rows["image"] != grounds[:, None, None]).any(-1).mean((1, 2))
    by_count = [covered[rows["count"] == k].mean() for k in range(3)]
    by_size = [covered[rows["size"] == k].mean() for k in range(3)]
    assert by_count[0] < by_count[1] < by_count[2]
    assert by_size[0] < by_size[1] < by_size[2]


def test_what_does_not_exist_is_refused():
    with pytest.raises(DataError, match="no such variant"):
        load(name="shapes:cubes")
    with pytest.raises(DataError, match="at least 16 pixels"):
        load(name="shapes", size=8)
