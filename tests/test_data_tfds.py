"""Catalogue datasets from a folder of originals: sums verified, prepared once, no TensorFlow anywhere."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import UrlInfo

import genjax.data as gd
from genjax.data import standin
from genjax.data.prepare import _check_sums
from genjax.data.sources import tfds as source
from genjax.errors import DataError

COUNTS = {"train": 24, "t10k": 8}
DRIVER = """
import json, sys
from genjax.data import prepare, standin
with standin.tensorflow():
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo
    from tensorflow_datasets.image_classification import mnist
    cls = tfds.builder_cls({name!r})
mnist._TRAIN_EXAMPLES, mnist._TEST_EXAMPLES = {train}, {t10k}
cls.url_infos = {{url: UrlInfo(size, sum, name) for url, size, sum, name in json.loads({sums!r})}}
sys.exit(prepare.main(sys.argv[1:]))
"""
"""The process that prepares, with a catalogue where a dataset is small and has the sums of our fixture."""


def driver(name: str, files: dict[str, Path]) -> tuple[str, str]:
    """PROGRAM for a dataset whose registered originals are these files, by address."""
    sums = []
    for url, file in files.items():
        data = file.read_bytes()
        sums.append((url, len(data), hashlib.sha256(data).hexdigest(), file.name))
    return "-c", DRIVER.format(name=name, sums=json.dumps(sums), **COUNTS)


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of originals with small idx files, which the catalogue accepts."""
    folder = tmp_path / "originals" / "mnist"
    folder.mkdir(parents=True)
    random, files = np.random.RandomState(0), {}
    for part, n in COUNTS.items():
        images = random.randint(0, 256, (n, 28, 28)).astype(np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        raw = {
            f"{part}-images-idx3-ubyte.gz": struct.pack(">4i", 2051, n, 28, 28) + images.tobytes(),
            f"{part}-labels-idx1-ubyte.gz": struct.pack(">2i", 2049, n) + labels.tobytes(),
        }
        for name, data in raw.items():
            (folder / name).write_bytes(gzip.compress(data))
            files[f"https://storage.googleapis.com/cvdf-datasets/mnist/{name}"] = folder / name
    monkeypatch.setattr(source, "PROGRAM", driver("mnist", files))
    return folder


def load(folder: Path, tmp_path: Path, **config) -> gd.Dataset:
    config = {"name": "tfds:mnist", **config}
    return gd.load(originals=str(folder.parent), cache=str(tmp_path / "cache"), **config)


def test_mnist_from_its_idx_files(mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = load(mnist, tmp_path)
    assert (len(dataset.train), len(dataset.eval)) == (24, 8)
    assert dataset.spec["image"] == gd.load(name="mnist5k").spec["image"]
    assert dataset.classes == tuple("0123456789")
    for split, part in ((dataset.train, "train"), (dataset.eval, "t10k")):
        raw = gzip.decompress((mnist / f"{part}-images-idx3-ubyte.gz").read_bytes())
        want = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28, 1)
        labels = {x.tobytes(): i % 10 for i, x in enumerate(want)}
        rows = split.rows(np.arange(len(split)))
        assert {x.tobytes(): y for x, y in zip(rows["image"], rows["label"], strict=True)} == labels
    assert "tensorflow" not in sys.modules
    assert not list((tmp_path / "cache" / "columns").glob(".*"))

    def again(request) -> None:
        raise AssertionError("prepared twice")

    monkeypatch.setattr(source, "run", again)
    assert load(mnist, tmp_path).fingerprint == dataset.fingerprint
    assert load(mnist, tmp_path, limit=5).fingerprint != dataset.fingerprint


def test_wrong_and_missing_originals(mnist: Path, tmp_path: Path):
    file = mnist / "train-images-idx3-ubyte.gz"
    good = file.read_bytes()
    file.write_bytes(good[:-100])
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte\.gz is not the registered original: [\d,]+ b"
    ):
        load(mnist, tmp_path)
    file.unlink()
    with pytest.raises(DataError) as caught:
        load(mnist, tmp_path)
    assert f"lacks originals in {mnist}: train-images-idx3-ubyte.gz\n" in str(caught.value)
    assert "https://storage.googleapis.com/cvdf-datasets/mnist/train-images" in caught.value.hint
    file.write_bytes(good)
    assert len(load(mnist, tmp_path).train) == 24


def test_other_splits_and_names(mnist: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no split 'dev'") as caught:
        load(mnist, tmp_path, eval_split="dev")
    assert "train, test" in caught.value.hint or "test, train" in caught.value.hint
    with pytest.raises(DataError, match="did you mean 'mnist'"):
        load(mnist, tmp_path, name="tfds:mnits")
    small = load(mnist, tmp_path, size=14)
    assert small.spec["image"].shape == (14, 14, 1)


def test_a_folder_of_originals_that_is_not_there(tmp_path: Path):
    with pytest.raises(DataError, match=r"no .*nowhere"):
        load(tmp_path / "nowhere" / "mnist", tmp_path)


def test_a_process_that_dies_says_so(mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source, "PROGRAM", ("-c", "import sys; sys.exit('out of disk')"))
    with pytest.raises(DataError, match="ended with code 1: out of disk"):
        load(mnist, tmp_path)
    assert not list((tmp_path / "cache" / "columns").glob("mnist*/"))


def test_the_stand_in_has_what_builders_use_and_names_what_it_lacks(tmp_path: Path):
    from PIL import Image

    tf = standin._tensorflow()
    x = np.random.RandomState(0).randint(0, 256, (5, 7, 3)).astype(np.uint8)
    for image in (x, x[..., :1]):
        (tmp_path / "x.png").write_bytes(tf.image.encode_png(image).numpy())
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")).reshape(image.shape), image)
    with tf.io.gfile.GFile(tmp_path / "t", "w") as file:
        file.write("ab")
    assert tf.io.gfile.exists(tmp_path / "t")
    assert tf.compat.as_text(b"ab") == "ab"
    with pytest.raises(standin.NeedsTensorFlow, match=r"^tensorflow\.image\.resize$"):
        tf.image.resize


def test_a_sum_that_differs_where_the_size_does_not(tmp_path: Path):
    (tmp_path / "a.gz").write_bytes(b"12345")
    right = UrlInfo(5, hashlib.sha256(b"12345").hexdigest(), "a.gz")  # type: ignore[arg-type]
    _check_sums(tmp_path, {"u": right, "v": dataclasses.replace(right, filename="not there")})
    with pytest.raises(
        DataError, match=r"a\.gz is not the registered original: sha256 5994471abb01\.\.\. inst"
    ):
        _check_sums(tmp_path, {"u": dataclasses.replace(right, checksum="0" * 64)})


def shakespeare(folder: Path, tmp_path: Path) -> None:
    """The text comes back whole: nine tenths to train, a twentieth to evaluate, as TFDS splits it."""
    dataset = load(folder, tmp_path, name="tfds:tiny_shakespeare", length=64)
    text = (folder / "input.txt").read_text("utf-8")
    cut = int(len(text) * 0.9)
    for split, start, end in (
        (dataset.train, 0, cut),
        (dataset.eval, cut, cut + int((len(text) - cut) * 0.5)),
    ):
        tokens = split.rows(np.arange(len(split)))["tokens"][:, :-1]
        joined = dataset.tokenizer.decode(tokens.ravel())  # type: ignore[union-attr]
        assert joined == text[start : start + len(joined)]
        assert 0 < end - start - len(joined) <= 64
    assert "splits train and validation" in dataset.info


def test_text_from_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "originals" / "tiny_shakespeare"
    folder.mkdir(parents=True)
    (folder / "input.txt").write_text("".join(f"Line {i} of a phase.\n\n" for i in range(400)))
    url = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
    monkeypatch.setattr(source, "PROGRAM", driver("tiny_shakespeare", {url: folder / "input.txt"}))
    shakespeare(folder, tmp_path)
