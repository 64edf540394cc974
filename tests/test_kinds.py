"""Every kind of data keeps the contract of genjax.kinds; a kind outside the package is used like its own."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from test_report_page import Page
from test_report_runs import build_run, write_json

from genjax import kinds
from genjax.data.tokenizers.bytes import Bytes
from genjax.data.tokenizers.chords import Chords
from genjax.errors import ConfigError, DataError
from genjax.evaluation import scores as evaluation
from genjax.evaluation.scores import Score
from genjax.kinds import Field, _pixels
from genjax.report import compare, single
from genjax.spec import Element, Spec, to_json

COUNT = 12
WAVE = "outside.wave"
CLASSES = ("cat", "dog", "owl")


@dataclasses.dataclass(frozen=True)
class Example:
    """Rows of one kind."""

    element: Element
    values: np.ndarray
    tokenizer: Any = None
    beside: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def field(self, name: str = "thing") -> Field:
        rows = {name: self.values, **{f"{name}_{k}": v for k, v in self.beside.items()}}
        return Field(name, self.element, rows, self.tokenizer, CLASSES)


def examples() -> dict[str, Example]:
    rng = np.random.default_rng(0)
    text = rng.integers(32, 127, (COUNT, 20))
    lengths = rng.integers(3, 21, COUNT).astype(np.int32)
    chords = Chords()
    voices = rng.integers(4, chords.vocabulary, (COUNT, 33))
    voices[:, 0] = chords.special["bos"]
    signals = rng.normal(size=(COUNT, 50)).astype(np.float32)
    return {
        "image": Example(
            Element((8, 6, 1), "uint8", 17, "image"), rng.integers(0, 17, (COUNT, 8, 6, 1)).astype(np.uint8)
        ),
        "label": Example(Element((), "int32", 3, "label"), np.arange(COUNT, dtype=np.int32) % 3),
        "point": Example(
            Element((2,), "float32", None, "point"), rng.normal(size=(COUNT, 2)).astype(np.float32)
        ),
        "roll": Example(
            Element((17, 88), "uint8", 2, "roll"), (rng.random((COUNT, 17, 88)) < 0.05).astype(np.uint8)
        ),
        "tokens": Example(
            Element((20,), "int32", 256, "tokens", "condition"), text, Bytes(), {"length": lengths}
        ),
        "caption": Example(
            Element((20,), "int32", 256, "caption", "condition"),
            text,
            Bytes(),
            {"mask": (np.arange(20) < lengths[:, None]).astype(np.float32)},
        ),
        "voices": Example(Element((33,), "int32", chords.vocabulary, "voices"), voices, chords),
        WAVE: Example(Element((50,), "float32", None, WAVE), signals),
    }


EXAMPLES = examples()
every_kind = pytest.mark.parametrize("name", sorted({*kinds.names(), WAVE}))


def kind_of(name: str) -> kinds.Kind:
    kind = kinds.of(EXAMPLES[name].element)
    assert kind is not None
    return kind


class Nested(HTMLParser):
    """Check that every tag that opens is closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open += [] if tag in ("img", "br") else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@every_kind
def test_a_unit_names_a_score(name: str):
    unit = kind_of(name).UNIT
    if unit is not None:
        assert unit.name.replace("_", "").isalnum()
        assert unit.base in ("nats", "bits")
        assert unit.criterion in ("coherence", "realism")
        assert Score(f"{unit.name}/exact", 1.0, criterion=unit.criterion)


@every_kind
def test_raw_is_one_finite_vector_for_each_row(name: str):
    example = EXAMPLES[name]
    raw = kind_of(name).raw(example.field())
    if raw is None:
        return
    assert raw.shape == (COUNT, int(np.prod(example.element.shape)))
    assert raw.dtype == np.float32
    assert np.isfinite(raw).all()
    if example.element.levels:
        assert raw.min() >= 0
        assert raw.max() <= 1
        top = np.full_like(example.values, example.element.levels - 1)
        whitest = kind_of(name).raw(dataclasses.replace(example, values=top).field())
        assert whitest is not None
        assert (whitest == 1).all()


@every_kind
def test_prompts_are_balanced_and_a_function_of_the_index(name: str):
    element = EXAMPLES[name].element
    index = np.arange(7 * (element.levels or 1))
    found = kind_of(name).prompts(element, index)
    if found is None:
        return
    assert found.shape == (len(index), *element.shape)
    _, counts = np.unique(found, return_counts=True)
    assert counts.tolist() == [7] * (element.levels or 1)
    np.testing.assert_array_equal(kind_of(name).prompts(element, index[5:9]), found[5:9])


@every_kind
def test_save_writes_a_file_that_opens(name: str, tmp_path: Path):
    kind = kind_of(name)
    path = kind.save(EXAMPLES[name].field(), tmp_path / "new" / "rows", 4)
    assert path.suffix == kind.SUFFIX
    if path.suffix == ".png":
        with Image.open(path) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 1
    elif path.suffix == ".npz":
        with np.load(path) as file:
            np.testing.assert_array_equal(file["thing"], EXAMPLES[name].values)
    else:
        assert len(path.read_text("utf-8").split("---")) >= COUNT
    assert not [p for p in path.parent.iterdir() if p.name.startswith(".")], "no partial file is left"


@every_kind
def test_without_a_tokenizer_save_still_writes_the_rows(name: str, tmp_path: Path):
    field = EXAMPLES[name].field()._replace(tokenizer=None)
    assert kind_of(name).save(field, tmp_path / "rows", 4).exists()


@every_kind
def test_what_a_kind_draws_is_well_formed(name: str):
    field = EXAMPLES[name].field()
    kind = kind_of(name)
    captions = [f"<b>{n}" for n in range(COUNT)]
    for drawn in (
        kind.card(field, "a <b>"),
        kind.card(field, "a", field, captions),
        kind.strip(field, "a", 5),
    ):
        if drawn is not None:
            Nested(drawn)
            assert "<b>" not in drawn
    tiles = kind.tiles(field, "a")
    assert tiles is None or len(tiles) == COUNT
    texts = kind.captions(field)
    assert texts is None or len(texts) == COUNT
    line = kind.row(field, 5, 40)
    assert line is None or line.width > line.height
    preview = kind.preview(field)
    assert preview is None or isinstance(preview, str | Image.Image)
    assert all(isinstance(a, str) and isinstance(b, str) for a, b in kind.describe(field))


@every_kind
def test_a_kind_that_needs_a_tokenizer_draws_nothing_without_one(name: str):
    field = EXAMPLES[name].field()._replace(tokenizer=None)
    kind = kind_of(name)
    if EXAMPLES[name].tokenizer is not None:
        assert kind.card(field, "a") is None
        assert kind.tiles(field, "a") is None
        assert kind.captions(field) is None


def context(name: str, **changes: Any) -> SimpleNamespace:
    example = EXAMPLES[name]
    spec = Spec({"thing": example.element})
    given = {"name": "made up", "spec": spec, "tokenizer": example.tokenizer, "classes": CLASSES, **changes}
    return SimpleNamespace(**given)


def picture(path: Path) -> Path:
    Image.new("RGB", (40, 30), "red").save(path)
    return path


@every_kind
def test_a_condition_is_parsed_to_rows_of_its_form_or_refused_by_name(name: str, tmp_path: Path):
    example = EXAMPLES[name]
    element = example.element.replace(role="condition")
    given = {
        "label": "dog",
        "prompt": "C4/C4/C4/C4" if name == "voices" else "abc",
        "input": str(picture(tmp_path / "a.png")),
    }
    kind = kind_of(name)
    if kind.OPTION is None:
        with pytest.raises(ConfigError, match="'thing'"):
            kind.parse("1", "thing", element, 2, context(name))
        return
    rows = kind.parse(given[kind.OPTION], "thing", element, 5, context(name))
    assert rows["thing"].shape == (5, *element.shape)
    assert np.issubdtype(rows["thing"].dtype, np.integer)
    assert rows["thing"].min() >= 0
    assert rows["thing"].max() < (element.levels or np.inf)
    assert all(len(column) == 5 for column in rows.values())


@pytest.mark.parametrize(
    ("name", "given", "error", "said"),
    [
        ("label", "3", ConfigError, r"--label=3.*'thing'"),
        ("label", "-1", ConfigError, r"--label=-1"),
        ("label", "cow", ConfigError, r"--label=cow.*'thing'(.|\n)*cat, dog, owl"),
        ("image", "/no/such/folder", DataError, r"--input=/no/such/folder: no such file"),
        ("tokens", "", ConfigError, r"--prompt is empty"),
        ("caption", "x" * 21, ConfigError, r"--prompt has 21 tokens, and 'thing' holds at most 20"),
    ],
)
def test_a_value_that_does_not_fit_is_named(name: str, given: str, error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        kind_of(name).parse(given, "thing", EXAMPLES[name].element, 2, context(name))


def test_files_that_are_no_images_are_named(tmp_path: Path):
    kind = kind_of("image")
    element = EXAMPLES["image"].element
    with pytest.raises(DataError, match="holds no image"):
        kind.parse(str(tmp_path), "thing", element, 2, context("image"))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png is not a readable image"):
        kind.parse(str(tmp_path), "thing", element, 2, context("image"))
    with pytest.raises(ConfigError, match="made up has no tokenizer"):
        kind_of("tokens").parse(
            "a", "thing", EXAMPLES["tokens"].element, 2, context("tokens", tokenizer=None)
        )


def test_image_files_are_read_as_they_are_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    kind = kind_of("image")
    grey = Element((4, 8, 1), "uint8", 256, "image", "condition")
    clear = np.zeros((4, 8, 4), np.uint8)  # black, and invisible
    Image.fromarray(clear).save(tmp_path / "clear.png")
    image = kind.parse(str(tmp_path / "clear.png"), "thing", grey, 1, context("image"))["thing"]
    assert (image == 255).all()
    assert "put on white" in caplog.text
    sideways = np.arange(32, dtype=np.uint8).reshape(8, 4)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # turn it by 90 degrees clockwise
    Image.fromarray(sideways).save(tmp_path / "sideways.png", exif=exif)
    image = kind.parse(str(tmp_path / "sideways.png"), "thing", grey, 1, context("image"))["thing"]
    np.testing.assert_array_equal(image[0, ..., 0], np.rot90(sideways, -1))


def test_image_files_that_would_be_changed_in_silence_are_refused(tmp_path: Path, monkeypatch):
    kind = kind_of("image")
    element = EXAMPLES["image"].element
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png has pixels of the mode 'I;16'"):
        kind.parse(str(tmp_path), "thing", element, 1, context("image"))
    (tmp_path / "deep.png").unlink()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"large\.png has too many pixels"):
        kind.parse(str(tmp_path), "thing", element, 1, context("image"))


def test_an_unknown_kind_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'imagee' \(did you mean 'image'\?\)"):
        kinds.of(Element((2,), "float32", None, "imagee"))
    with pytest.raises(ConfigError, match=r"outside\.nowhere"):
        kinds.of(Element((2,), "float32", None, "outside.nowhere"))
    assert kinds.of(Element((2,), "float32")) is None


def test_rows_with_several_targets_and_conditions_become_several_files(tmp_path: Path):
    spec = Spec(
        {
            "picture": EXAMPLES["image"].element.replace(role="target"),
            "signal": EXAMPLES[WAVE].element.replace(role="target"),
            "sketch": EXAMPLES["image"].element.replace(role="condition"),
            "words": EXAMPLES["caption"].element,
        }
    )
    rows = {"picture": EXAMPLES["image"].values, "signal": EXAMPLES[WAVE].values}
    rows |= {"sketch": EXAMPLES["image"].values, "words": EXAMPLES["caption"].values}
    rows |= {"words_mask": EXAMPLES["caption"].beside["mask"]}
    first = kinds.save_rows(spec, rows, tmp_path / "final", Bytes())
    assert first.name == "final_picture.png"
    names = {"final_picture.png", "final_signal.png", "final_sketch.png", "final_captions.json"}
    assert {p.name for p in tmp_path.iterdir()} == names
    texts = json.loads((tmp_path / "final_captions.json").read_text("utf-8"))
    assert texts == kind_of("caption").captions(EXAMPLES["caption"].field())


# A kind outside the package.

SIGNALS = Spec({"sound": EXAMPLES[WAVE].element.replace(role="target")})


def signal_run(directory: Path) -> Path:
    build_run(directory, "vae", "training")
    for path in (directory / "samples").iterdir():
        path.unlink()
    write_json(directory / "dataset.json", {"name": "signals", "spec": to_json(SIGNALS)})
    np.savez(directory / "samples" / "samples.npz", sound=EXAMPLES[WAVE].values)
    return directory


def test_a_kind_outside_the_package_is_found_with_defaults_for_what_it_leaves_out():
    kind = kind_of(WAVE)
    assert WAVE not in kinds.names()
    assert kinds.Unit("nats_per_sample", "Nats per sample", "nats", "realism") == kind.UNIT
    assert (kind.RUNNING, kind.OPTION, kind.PICTURE) == (False, None, False)
    assert kinds.main_target(SIGNALS) == "sound"
    field = EXAMPLES[WAVE].field()
    assert kind.strip(field, "a", 3) is None
    assert kind.describe(field) == []


def test_a_kind_outside_the_package_is_saved_and_previewed(tmp_path: Path):
    rows = {"sound": EXAMPLES[WAVE].values}
    path = kinds.save_rows(SIGNALS, rows, tmp_path / "final")
    assert path == tmp_path / "final.png"
    preview = kind_of(WAVE).preview(EXAMPLES[WAVE].field())
    assert isinstance(preview, Image.Image)
    with Image.open(path) as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(preview))


def test_a_kind_outside_the_package_has_a_card_in_a_report(tmp_path: Path):
    directory = signal_run(tmp_path / "run")
    shape = (2, 5, 5)
    for step in (1, 2):
        _pixels.save(directory / "samples" / f"step_{step:08d}.png", np.zeros((*shape, 1), np.uint8), 2, 2)
    text = single.write(directory).read_text("utf-8")
    Page(text)
    assert text.count('class="wave"') == 6
    assert 'class="steps"' in text


def test_a_comparison_of_such_data_draws_all_on_the_scale_of_the_real_rows(tmp_path: Path):
    for name in ("a", "b"):
        signal_run(tmp_path / name)
        value = Score("nats_per_sample/density", 1.0, 0.9, 1.1, "lower", label="Nats per sample (density)")
        evaluation.write(tmp_path / name / "scores.json", [value])
    (tmp_path / "real").mkdir()
    np.savez(tmp_path / "real" / "samples.npz", sound=10 * EXAMPLES[WAVE].values)
    write_json(
        tmp_path / "compare.json", {"name": "signals", "entries": {"a": {"run": "a"}, "b": {"run": "b"}}}
    )
    text = compare.write(tmp_path).read_text("utf-8")
    assert "Nats per sample (density)" in Page(text).text
    assert text.count('class="wave"') == 18
    rows = text.split('class="wave"')
    reach = [max(abs(float(y) - 30) for y in _heights(row)) for row in rows[1:]]
    assert max(reach[:6]) > 20, "real signals fill the height"
    assert max(reach[6:]) < 5, "samples are drawn ten times smaller, as they are"


def _heights(markup: str) -> list[str]:
    path = markup.split('d="M')[1].split('"')[0]
    return [point.split(" ")[1] for point in path.split("L")]


# Grids of tiles.


def test_levels_span_black_to_white_and_tiles_lie_in_reading_order():
    tiles = np.stack([np.full((2, 3, 1), level, np.uint8) for level in (0, 16, 8)])
    drawn = np.asarray(_pixels.grid(tiles, 17, 2, 2, gap=1, background=7))
    assert drawn.shape == (2 * 4 + 1, 2 * 6 + 1)
    assert (drawn[:4, :6] == 0).all()
    assert (drawn[:4, 7:] == 255).all()
    assert (drawn[5:, :6] == 128).all()
    assert (drawn[5:, 7:] == 7).all()
    assert (drawn[4] == 7).all()


def test_colour_and_transparent_gaps():
    tiles = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    picture = _pixels.grid(tiles, 256, 5, 1, gap=2, background=None)
    assert picture.mode == "RGBA"
    pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels[:, 6:10, :3], tiles[1])
    assert (pixels[:, 4:6, 3] == 0).all()


@pytest.mark.parametrize(
    ("shape", "top", "columns"),
    [
        ((3, 4, 4), 3, 2),
        ((3, 4, 4, 2), 3, 2),
        ((0, 4, 4, 1), 3, 2),
        ((3, 4, 4, 1), 17, 2),
        ((3, 4, 4, 1), 3, 0),
    ],
)
def test_what_is_no_image_is_refused(shape: tuple[int, ...], top: int, columns: int):
    with pytest.raises(ValueError, match=r"images|values|columns"):
        _pixels.grid(np.full(shape, top, np.uint8), 17, columns, 2)


def test_save_writes_a_png_that_reads_back(tmp_path: Path):
    tiles = np.random.default_rng(0).integers(0, 17, (6, 8, 8, 1)).astype(np.uint8)
    path = _pixels.save(tmp_path / "new" / "grid.png", tiles, 17, 3, 4)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(_pixels.grid(tiles, 17, 3, 4)))
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]
