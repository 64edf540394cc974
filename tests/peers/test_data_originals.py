"""The catalogue's own originals, where this machine has a folder of them (GENJAX_ORIGINALS)."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import genjax.data as gd

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_data_tfds import load, shakespeare

HERE = os.environ.get("GENJAX_ORIGINALS")
FOLDER = Path(HERE) if HERE else Path(__file__).parents[3] / "shared" / "data"

if (FOLDER / "tiny_shakespeare" / "input.txt").exists():

    @pytest.mark.peers
    def test_tiny_shakespeare(tmp_path: Path):
        shakespeare(FOLDER / "tiny_shakespeare", tmp_path)


if (FOLDER / "mnist" / "train-images-idx3-ubyte.gz").exists():

    @pytest.mark.peers
    def test_mnist_is_its_idx_files_and_holds_mnist5k(tmp_path: Path):
        dataset = load(FOLDER / "mnist", tmp_path)
        assert (len(dataset.train), len(dataset.eval)) == (60_000, 10_000)
        for split, part in ((dataset.train, "train"), (dataset.eval, "t10k")):
            raw = gzip.decompress((FOLDER / "mnist" / f"{part}-images-idx3-ubyte.gz").read_bytes())
            want = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784)
            got = split.rows(np.arange(len(split)))["image"].reshape(-1, 784)
            assert sorted(x.tobytes() for x in got) == sorted(x.tobytes() for x in want)
        labelled = {
            x.tobytes(): int(y) for x, y in zip(*dataset.train.rows(np.arange(60_000)).values(), strict=True)
        }
        small = gd.load(name="mnist5k").train.rows(np.arange(4500))
        known = [labelled.get(x.tobytes()) for x in small["image"]]
        assert np.mean([k == y for k, y in zip(known, small["label"], strict=True)]) > 0.999


if (FOLDER / "multi30k" / "train.en.gz").exists():

    @pytest.mark.peers
    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_multi30k_is_its_files_line_by_line(split: str):
        buckets = (16, 24, 32, 48, 64)
        given = {"tokenizer": "bpe", "vocabulary": 4000, "buckets": buckets, "eval_split": split}
        dataset = gd.load(name="multi30k", originals=str(FOLDER), **given)
        assert (len(dataset.train), len(dataset.eval)) == (28_999, 1_014 if split == "validation" else 1_000)
        rows = dataset.eval.rows(np.arange(len(dataset.eval)))
        part = "val" if split == "validation" else "test_2016_flickr"
        for side, language in (("source", "en"), ("target", "de")):
            want = gzip.decompress((FOLDER / "multi30k" / f"{part}.{language}.gz").read_bytes()).decode()
            got = [dataset.tokenizer.decode(tokens) for tokens in rows[side]]  # type: ignore[union-attr]
            assert "\n".join(got) + "\n" == want


if (FOLDER / "jsb_chorales" / "JSB_Chorales.mat").exists():

    @pytest.mark.peers
    def test_chorales_are_their_files():
        from scipy.io import loadmat

        cells = loadmat(FOLDER / "jsb_chorales" / "JSB_Chorales.mat")
        steps = json.loads((FOLDER / "jsb_chorales" / "jsb-chorales-16th.json").read_text())
        for split, part, count in (("validation", "valid", 76), ("test", "test", 77)):
            rolls = gd.load(name="chorales", originals=str(FOLDER), length=159, eval_split=split)
            assert (len(rolls.train), len(rolls.eval)) == (229, count)
            rows = rolls.eval.rows(np.arange(count))
            want = cells[f"{part}data"][0]
            assert (rows["segment"][:, 1:] > 0).sum() == sum(len(w) - 1 for w in want)
            for roll, piece in zip(rows["roll"], want, strict=True):
                np.testing.assert_array_equal(roll[: len(piece)], piece)
            voices = gd.load(name="chorales:voices", originals=str(FOLDER), length=2560, eval_split=split)
            assert (len(voices.train), len(voices.eval)) == (229, count)
            tokens = voices.eval.rows(np.arange(count))["tokens"]
            for row, frames in zip(tokens, steps[part], strict=True):
                got = voices.tokenizer.voices(row)  # type: ignore[union-attr]
                # The file leaves silent voices out of a frame; whose they are is ours to say.
                assert [sorted(p for p in f if p >= 0) for f in got.tolist()] == [sorted(f) for f in frames]
