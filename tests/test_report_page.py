"""The pages themselves: whole, self-contained, safe, and honest about what is not there yet."""

from __future__ import annotations

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
from genjax.report import compare, figure, single

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
    assert "samples" in shown.ids, "the pictures that training left are shown"
    with pytest.raises(DataError, match=r"config\.json"):
        single.write(tmp_path / "nowhere")


def test_points_and_text_are_shown_too(tmp_path: Path):
    rng = np.random.default_rng(0)
    directory = build_run(tmp_path / "vae", "vae")
    np.savez(directory / "samples" / "samples.npz", point=rng.normal(size=(300, 2)).astype(np.float32))
    assert "cloud" in single.write(directory).read_text("utf-8")
    (directory / "samples" / "samples.npz").unlink()
    (directory / "samples" / "final.txt").write_text("To <be> or not", "utf-8")
    assert "To <be> or not" in Page(single.write(directory).read_text("utf-8")).text


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
        "import sys; from genjax.report import compare, single, grids, figure; "
        "print([m for m in ('jax', 'flax', 'numpy', 'matplotlib', 'PIL') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
