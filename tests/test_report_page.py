"""The pages themselves: complete, self-contained, safe, and clear about what is missing."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report_runs import FAMILIES, QUALITY, build, build_run, write_json

from genjax.errors import DataError, ProtocolError
from genjax.kinds import _pixels
from genjax.report import compare, figure, single
from genjax.spec import Element, Spec, to_json

VOID = {"meta", "img", "br", "hr", "input", "col", "link"}


class Page(HTMLParser):
    """Checks that tags nest, and gathers what the page refers to and says."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.handlers: list[str] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        for key, value in attrs:
            if key in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                self.references.append(value or "")
            self.ids |= {value or ""} if key == "id" else set()
            self.handlers += [key] if key.startswith("on") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.said.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.said))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = build(tmp_path_factory.mktemp("runs") / "compare-digits")
    assert compare.write(directory) == directory / "report.html"
    return directory


@pytest.fixture(scope="module")
def page(whole: Path) -> Page:
    return Page((whole / "report.html").read_text("utf-8"))


def test_the_page_is_self_contained(whole: Path, page: Page):
    assert page.references
    assert all(r.startswith(("data:image/png;base64,", "#")) for r in page.references)
    assert {r[1:] for r in page.references if r.startswith("#")} <= page.ids
    text = (whole / "report.html").read_text("utf-8")
    assert not re.search(r"https?://|@import|url\(", text)
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert len(text) < 2_000_000


def test_the_page_shows_every_entry_the_floor_and_every_part(page: Page):
    assert "Real against real" in page.text
    assert all(family in page.text for family in FAMILIES.values())
    parts = "findings scores samples cost curves neighbours likelihood protocol reproduce caveats"
    assert set(parts.split()) <= page.ids
    assert "8.10" in page.text, "diffusion's Fréchet distance"
    assert "has no likelihood" in page.text
    assert "takes no condition" in page.text
    assert "5e1f0c" in page.text
    assert "b71c22" in page.text
    assert "genjax compare --config=compare/digits" in page.text
    assert page.tags.count("img") > 60


def test_only_the_best_apart_from_all_others_is_marked(whole: Path):
    text = (whole / "report.html").read_text("utf-8")
    table = re.findall(r"<table class=\"scores\".*?</table>", text, re.S)[0]
    head = re.findall(r'<th scope="col" data-column="\d+".*?>(.*?)<', table)
    rows = re.findall(r"<tr data-entry.*?</tr>", table, re.S)
    marked = {
        (row, head[cell].strip("\u00a0 "))
        for row, line in zip(FAMILIES, rows, strict=True)
        for cell, mark in enumerate(re.findall(r"<td(.*?)>", line))
        if " best" in mark
    }
    assert ("diffusion", "Fréchet distance") in marked
    assert not any(label in ("Recall", "Coverage", "Precision", "Density") for _, label in marked)
    floor = re.findall(r'<tr class="floor">.*?</tr>', table, re.S)
    assert len(floor) == 1
    assert "best" not in floor[0]


def test_report_json_says_what_the_scores_say(whole: Path):
    report = json.loads((whole / "report.json").read_text("utf-8"))
    assert list(report["entries"]) == list(FAMILIES)
    for name, entry in report["entries"].items():
        assert entry["status"] == "scored"
        assert entry["scores"]["frechet"]["value"] == QUALITY[name][0]
        saved = json.loads((whole / entry["run"] / "scores.json").read_text("utf-8"))
        assert set(entry["scores"]) == {s["name"] for s in saved}
    assert report["floor"]["frechet"]["value"] == QUALITY["floor"][0]
    assert report["best"]["frechet"] == "diffusion"
    assert report["best"]["recall"] is None
    assert report["protocol"]["frechet"]["samples"] == 900
    assert report["entries"]["gpt"]["params"] == 813_568
    assert report["entries"]["diffusion"]["knobs"] == {"sampler": "ddim", "steps": 50, "guidance": 1.5}
    curve = report["entries"]["gan"]["curves"]["critic/loss"]["train"]
    assert 100 < len(curve) <= 160
    assert report["environment"]["jax"] == "0.10.2"


def test_writing_twice_gives_the_same_bytes(whole: Path):
    before = {n: (whole / n).read_bytes() for n in ("report.html", "report.json")}
    compare.write(whole)
    assert before == {n: (whole / n).read_bytes() for n in before}
    assert not list(whole.glob("*.partial")) + list(whole.glob(".*partial"))


def test_a_comparison_under_way_renders_with_its_state(tmp_path: Path):
    stages = {"gan": "waiting", "gpt": "training", "diffusion": "sampled"}
    directory = build(tmp_path / "half", stages, floor=False)
    page = Page(compare.write(directory).read_text("utf-8"))
    assert "2 of 5 scored" in page.text
    assert "GAN is waiting, GPT is trained (1200 steps) and Diffusion is sampled and not scored" in page.text
    assert "no real-against-real floor" in page.text
    report = json.loads((directory / "report.json").read_text("utf-8"))
    assert {n: e["status"] for n, e in report["entries"].items()} == {
        "ngram": "scored",
        "vae": "scored",
        **stages,
    }
    assert report["floor"] is None


def test_a_comparison_that_has_just_begun_renders(tmp_path: Path):
    directory = build(tmp_path / "new", dict.fromkeys(FAMILIES, "waiting"), floor=False)
    (directory / "real" / "samples.npz").unlink()
    assert "No entry has been scored yet" in Page(compare.write(directory).read_text("utf-8")).text


def test_mixed_protocols_are_refused_and_nothing_is_written(tmp_path: Path):
    directory = build(tmp_path / "mixed")
    path = directory / "gpt" / "scores.json"
    scores = json.loads(path.read_text("utf-8"))
    scores[0]["protocol"]["samples"] = 1000
    write_json(path, scores)
    with pytest.raises(ProtocolError, match=r"'samples'.*900.*1000"):
        compare.write(directory)
    assert not (directory / "report.html").exists()


def test_no_comparison_and_a_broken_one_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"compare\.json"):
        compare.write(tmp_path)
    directory = build(tmp_path / "broken")
    (directory / "vae" / "scores.json").write_text("[{]")
    with pytest.raises(DataError, match=r"vae/scores\.json"):
        compare.write(directory)


EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"


def test_names_from_files_are_text_and_never_markup(tmp_path: Path):
    directory = build(tmp_path / "evil", dict.fromkeys(list(FAMILIES)[1:], "waiting"))
    about = json.loads((directory / "compare.json").read_text("utf-8"))
    about.update(title=EVIL, dataset=EVIL, command=EVIL, environment={EVIL: EVIL}, features={EVIL: EVIL})
    about["entries"] = {EVIL: {"family": EVIL + "x", "run": "ngram", "description": EVIL}}
    write_json(directory / "compare.json", about)
    write_json(
        directory / "ngram" / "config.json", {"name": EVIL, "sample": {EVIL: EVIL}, "train": {}, "data": {}}
    )
    scores = json.loads((directory / "ngram" / "scores.json").read_text("utf-8"))
    for score in scores[:2]:
        score.update(name=EVIL + score["name"], unit=EVIL, protocol={EVIL: EVIL}, detail={EVIL: EVIL})
    write_json(directory / "ngram" / "scores.json", scores)
    with open(directory / "ngram" / "metrics.jsonl", "w") as file:
        file.write(json.dumps({"step": 1, "split": EVIL, EVIL + "/loss": 1.0}) + "\n")
    written = [compare.write(directory), single.write(directory / "ngram")]
    for path in written:
        page = Page(path.read_text("utf-8"))
        assert page.tags.count("script") == 1
        assert not page.handlers
        assert all(r.startswith(("data:image/png", "#")) for r in page.references)
        assert "alert(1)" in page.text, "it is shown, as text"


def test_one_run_has_a_page_of_its_own(tmp_path: Path):
    directory = build_run(tmp_path / "diffusion", "diffusion")
    page = Page(single.write(directory).read_text("utf-8"))
    assert "One run, scored; the last step on record is 1200" in page.text
    assert {"scores", "samples", "curves", "neighbours", "reproduce"} <= page.ids
    assert "guidance 1.5" in page.text
    young = build_run(tmp_path / "vae", "vae", "training")
    shown = Page(single.write(young).read_text("utf-8"))
    assert "trained (1200 steps)" in shown.text
    assert "samples" in shown.ids, "the pictures that training saved are shown"
    with pytest.raises(DataError, match=r"config\.json"):
        single.write(tmp_path / "nowhere")


def test_points_and_text_are_shown_too(tmp_path: Path):
    rng = np.random.default_rng(0)
    directory = build_run(tmp_path / "vae", "vae")
    np.savez(directory / "samples" / "samples.npz", spot=rng.normal(size=(300, 2)).astype(np.float32))
    save_spec(directory, Spec({"spot": Element((2,), "float32", None, "point", "target")}))
    assert "cloud" in single.write(directory).read_text("utf-8")
    words = Spec({"words": Element((17,), "int32", 256, "tokens", "target")})
    save_spec(directory, words)
    (directory / "samples" / "final.txt").write_text("To <be> or not", "utf-8")
    np.savez(directory / "samples" / "samples.npz", words=rng.integers(0, 256, (3, 17)))
    assert "To <be> or not" in Page(single.write(directory).read_text("utf-8")).text
    (directory / "samples" / "samples.npz").unlink()
    assert "To <be> or not" in Page(single.write(directory).read_text("utf-8")).text


def save_spec(directory: Path, spec: Spec) -> None:
    write_json(directory / "dataset.json", {"name": "made up", "spec": to_json(spec)})


def images(rng: np.random.Generator, count: int, side: int, channels: int = 1) -> np.ndarray:
    return rng.integers(0, 256, (count, side, side, channels)).astype(np.uint8)


def sampled(
    directory: Path, spec: Spec, rows: dict[str, np.ndarray], captions: list[str] | None = None
) -> Path:
    """A run with these samples and no pictures."""
    build_run(directory, "vae", "training")
    for path in (directory / "samples").glob("*.png"):
        path.unlink()
    save_spec(directory, spec)
    np.savez(directory / "samples" / "samples.npz", allow_pickle=False, **rows)
    if captions is not None:
        write_json(directory / "samples" / "final_captions.json", captions)
    return directory


def section(directory: Path) -> str:
    """The samples of a run's page."""
    text = single.write(directory).read_text("utf-8")
    Page(text)
    return re.findall(r'<section id="samples">.*?</section>', text, re.S)[0]


def test_an_input_is_shown_beside_its_output(tmp_path: Path):
    """Super-resolution: every row is a figure with two pictures, the condition first."""
    rng = np.random.default_rng(0)
    spec = Spec(
        {
            "high": Element((8, 8, 3), "uint8", 256, "image", "target"),
            "low": Element((4, 4, 3), "uint8", 256, "image", "condition"),
        },
        paired=True,
    )
    rows = {"low": images(rng, 30, 4, 3), "high": images(rng, 30, 8, 3)}
    shown = section(sampled(tmp_path / "run", spec, rows))
    figures = re.findall(r"<figure>(.*?)</figure>", shown, re.S)
    assert len(figures) == 12
    for figure_ in figures:
        assert re.findall(r"<small>(.*?)</small>", figure_) == ["low", "→ high"]
        assert figure_.count("<img") == 2
    text = (tmp_path / "run" / "report.html").read_text("utf-8")
    hero = text[text.index('class="strip"') : text.index("<nav")]
    assert ">Input<" in hero.replace("</i>", ">").replace("<small>", "<")


def test_an_input_is_shown_above_an_output_that_is_text(tmp_path: Path):
    """A captioning model: the text is read from the file that was saved, as there is no tokenizer."""
    rng = np.random.default_rng(0)
    spec = Spec(
        {
            "photo": Element((4, 4, 1), "uint8", 256, "image", "condition"),
            "words": Element((9,), "int32", 300, "tokens", "target"),
        },
        paired=True,
    )
    rows = {"photo": images(rng, 30, 4), "words": rng.integers(0, 300, (30, 9))}
    directory = sampled(tmp_path / "run", spec, rows)
    (directory / "samples" / "final_words.txt").write_text("a grey square\n", "utf-8")
    shown = section(directory)
    assert shown.index("photo (input)") < shown.index("<img") < shown.index("a grey square")


def test_real_captions_stand_below_real_rows(tmp_path: Path):
    directory = build(tmp_path / "said")
    write_json(directory / "real" / "final_captions.json", ["a real nought", "a real one"])
    text = compare.write(directory).read_text("utf-8")
    assert text.count("<figcaption>a real") == 2


def test_every_target_has_a_card_with_its_own_pictures_from_training(tmp_path: Path):
    rng = np.random.default_rng(0)
    kinds = {"left": "image", "right": "image", "where": "point"}
    shapes = {"left": (4, 4, 1), "right": (4, 4, 1), "where": (2,)}
    spec = Spec(
        {
            n: Element(
                shapes[n], "uint8" if k == "image" else "float32", 256 if k == "image" else None, k, "target"
            )
            for n, k in kinds.items()
        }
    )
    rows = {
        "left": images(rng, 20, 4),
        "right": images(rng, 20, 4),
        "where": rng.normal(size=(20, 2)).astype(np.float32),
    }
    shown = section(sampled(tmp_path / "run", spec, rows))
    assert re.findall(r"<h4>(.*?)</h4>", shown) == ["left", "right", "where"]
    assert shown.count('class="points"') == 1
    for step in (1, 2):
        for name in ("left", "right"):
            path = tmp_path / "run" / "samples" / f"step_{step:08d}_{name}.png"
            _pixels.save(path, rows[name][step:], 256, 5)
    text = single.write(tmp_path / "run").read_text("utf-8")
    assert text.count('class="steps"') == 2
    assert "2 pictures, from" not in text
    _pixels.save(tmp_path / "run" / "samples" / "step_00001500_left.png", rows["left"], 256, 5)
    text = single.write(tmp_path / "run").read_text("utf-8")
    assert text.count("3 pictures, from step 1 to step 1 500") == 2  # of the left element: alt and caption
    uris = re.findall(r'src="data:image/png;base64,([^"]*)"', text)
    frames = [getattr(Image.open(io.BytesIO(base64.b64decode(uri))), "n_frames", 1) for uri in uris]
    assert sorted(frames)[-2:] == [1, 3]


def test_captions_stand_below_the_samples_that_they_belong_to(tmp_path: Path):
    rng = np.random.default_rng(0)
    spec = Spec(
        {
            "image": Element((4, 4, 1), "uint8", 256, "image", "target"),
            "said": Element((9,), "int32", 300, "caption", "condition"),
        }
    )
    rows = {"image": images(rng, 30, 4), "said": rng.integers(0, 300, (30, 9))}
    shown = section(sampled(tmp_path / "run", spec, rows, [f"picture <{n}>" for n in range(5)]))
    assert re.findall(r"<figcaption>(.*?)</figcaption>", shown) == [f"picture &lt;{n}&gt;" for n in range(5)]
    assert shown.count("<img") == 5


def test_music_is_drawn_and_what_needs_a_tokenizer_is_shown_as_it_was_saved(tmp_path: Path):
    rng = np.random.default_rng(0)
    spec = Spec({"piece": Element((9, 88), "uint8", 2, "roll", "target")})
    rows = {"piece": (rng.random((4, 9, 88)) < 0.05).astype(np.uint8)}
    assert section(sampled(tmp_path / "roll", spec, rows)).count('class="plain"') == 3
    voices = Spec({"piece": Element((9,), "int32", 90, "voices", "target")})
    directory = sampled(tmp_path / "voices", voices, {"piece": rng.integers(0, 90, (4, 9))})
    _pixels.save(directory / "samples" / "final.png", images(rng, 4, 4), 256, 2)
    assert section(directory).count("<img") == 1


def test_a_failed_entry_is_named_with_its_error(tmp_path: Path):
    directory = build(tmp_path / "failed", {"gan": "waiting"})
    about = json.loads((directory / "compare.json").read_text("utf-8"))
    about["entries"]["gan"]["error"] = "the loss is NaN at step 7"
    write_json(directory / "compare.json", about)
    page = Page(compare.write(directory).read_text("utf-8"))
    assert "GAN failed: the loss is NaN at step 7." in page.text
    assert "waiting" not in page.text
    assert "Not finished" not in page.text
    report = json.loads((directory / "report.json").read_text("utf-8"))
    assert report["entries"]["gan"]["status"] == "failed"
    assert report["entries"]["gan"]["error"] == "the loss is NaN at step 7"


def test_a_picture_that_cannot_be_read_is_shown_as_such(tmp_path: Path):
    directory = build_run(tmp_path / "vae", "vae")
    (directory / "samples" / "step_00001200.png").write_bytes(b"not a png")
    assert "unreadable" in Page(single.write(directory).read_text("utf-8")).text


def test_the_figure_shows_every_family_that_has_samples(whole: Path, tmp_path: Path):
    path = figure.write_figure(whole, tmp_path / "docs" / "figure.png")
    with Image.open(path) as picture:
        full = picture.size
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    assert full[0] > 1200
    half = build(tmp_path / "half", {"gan": "waiting"})
    with Image.open(figure.write_figure(half, tmp_path / "half.png")) as picture:
        assert picture.size == (full[0], full[1] - figure.LINE)
    empty = build(tmp_path / "none", dict.fromkeys(FAMILIES, "training"))
    (empty / "real" / "samples.npz").unlink()
    with pytest.raises(DataError, match="no samples"):
        figure.write_figure(empty, tmp_path / "none.png")


def test_the_report_imports_no_jax_and_nothing_heavy_before_it_is_needed():
    code = (
        "import sys; from genjax.report import compare, single, figure; "
        "print([m for m in ('jax', 'flax', 'numpy', 'matplotlib', 'PIL') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
