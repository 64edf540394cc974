"""The catalogue's own originals, where this machine has a folder of them (GENJAX_ORIGINALS)."""

from __future__ import annotations

import gzip
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
