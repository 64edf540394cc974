"""Documents: none is lost, none is seen by another, whole ones share a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import genjax.data as gd
from genjax.data import documents as docs
from genjax.errors import ConfigError, DataError


def numbered(sizes: list[int]) -> list[np.ndarray]:
    """Documents whose tokens are all different."""
    ends = np.cumsum(sizes)
    return [np.arange(e - n, e, dtype=np.int32) + 1 for n, e in zip(sizes, ends, strict=True)]


def test_bins_hold_every_item_once_and_little_air():
    sizes = np.random.RandomState(0).randint(1, 33, 1000).tolist()
    bins = docs.best_fit(sizes, 32)
    assert sorted(i for b in bins for i in b) == list(range(1000))
    assert max(sum(sizes[i] for i in b) for b in bins) <= 32
    assert len(bins) <= 1.02 * -(-sum(sizes) // 32)  # in order, with no choice, it takes a third more
    assert bins == docs.best_fit(sizes, 32)
    assert bins == sorted(bins)
    assert docs.best_fit([5, 2, 3, 6], 8) == [[0, 2], [1, 3]]
    assert docs.best_fit([], 8) == []


@pytest.mark.parametrize("size", [0, 1, 2, 8, 9, 10, 16, 17, 18, 40])
def test_a_long_document_is_cut_so_that_each_token_is_predicted_once(size: int):
    (document,) = numbered([size])
    parts = docs.pieces(document, 8)
    targets = [t for p in parts for t in p[1:].tolist()]
    assert targets == document[1:].tolist()
    assert all(2 <= len(p) <= 9 for p in parts)


def test_packed_rows_hold_whole_documents():
    sizes = np.random.RandomState(1).randint(2, 40, 60).tolist()
    documents = numbered(sizes)
    rows = docs.Packed(documents, 15, pad=7777)(np.arange(len(docs.Packed(documents, 15))))
    tokens, segment = rows["tokens"], rows["segment"]
    assert tokens.dtype == segment.dtype == np.int32
    assert ((tokens == 7777) == (segment == 0)).all()
    found = []
    for row, number in zip(tokens, segment, strict=True):
        used = number[number > 0]
        assert (np.diff(used) >= 0).all()
        assert set(used.tolist()) == set(range(used.min(), used.max() + 1))
        assert (number[len(used) :] == 0).all()  # padding stands behind
        found += [row[number == n].tolist() for n in range(used.min(), used.max() + 1)]
    want = [p.tolist() for d in documents for p in docs.pieces(d, 15)]
    assert sorted(found) == sorted(want)
    assert (segment == 0).mean() < 0.05
    everywhere = np.unique(segment[segment > 0])
    assert everywhere.tolist() == list(range(1, len(want) + 1))  # no number is used in two rows


def text_of(tmp_path: Path, count: int = 40) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"document {i} " + "x" * (i % 13) for i in range(count)))
    return path


def test_running_text_numbers_its_documents(tmp_path: Path):
    path = text_of(tmp_path)
    d = gd.load(name=f"text:{path}", documents="\n\n", length=16)
    rows = d.train.rows(np.arange(len(d.train)))
    tokens, segment = rows["tokens"][:, :-1].ravel(), rows["segment"][:, :-1].ravel()
    text = d.tokenizer.decode(tokens)
    assert path.read_text().startswith(text)  # the separators are still there, at the documents' ends
    assert segment[0] == 1
    for n, part in enumerate(text.split("\n\n")[:-1], 1):
        assert d.tokenizer.decode(tokens[segment == n]) == part + "\n\n"
    held = d.eval.rows(np.arange(len(d.eval)))
    assert d.tokenizer.decode(held["tokens"][0]).startswith("document 3")
    assert held["segment"][0, 0] == 1
    np.testing.assert_array_equal(rows["segment"][:-1, -1], rows["segment"][1:, 0])


def test_marks_stand_for_what_separates(tmp_path: Path):
    d = gd.load(
        name=f"text:{text_of(tmp_path)}",
        documents="\n\n",
        tokenizer="bpe",
        vocabulary=280,
        length=24,
        pack=True,
    )
    special = d.tokenizer.special
    rows = d.train.rows(np.arange(len(d.train)))
    for row, number in zip(rows["tokens"], rows["segment"], strict=True):
        for n in np.unique(number[number > 0]):
            one = row[number == n]
            assert one[0] == special["bos"]
            assert one[-1] == special["eos"]
            assert "\n" not in d.tokenizer.decode(one)
        assert (row[number == 0] == special["pad"]).all()
    assert {"tokens", "segment"} == d.spec.elements.keys()


def test_a_sources_own_documents(tmp_path: Path):
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text(f"file number {i}, with\n\nblank lines\n")
    d = gd.load(name=f"text:{tmp_path}", documents="source", length=40, pack=True)
    assert "4 and 1 documents" in d.info
    first = d.train.rows([0])
    assert d.tokenizer.decode(first["tokens"][0][first["segment"][0] == 1]).startswith("file number 0")
    topics = gd.load(name="pydoc", documents="source", length=200)
    row = topics.train.rows([0])["tokens"][0]
    assert topics.tokenizer.decode(row).lstrip().startswith('The "assert" statement')


def test_documents_change_the_fingerprint_only_where_asked_for(tmp_path: Path):
    path = text_of(tmp_path)

    def of(**changes) -> str:
        return gd.load(name=f"text:{path}", length=16, **changes).fingerprint

    prints = [of(), of(documents="\n\n"), of(documents="\n\n", pack=True), of(documents="document")]
    assert len(set(prints)) == 4
    assert of(documents="\n\n", pack=True) == prints[2]


def test_documents_that_cannot_be(tmp_path: Path):
    path = text_of(tmp_path)
    with pytest.raises(DataError, match=r"data\.documents"):
        gd.load(name=f"text:{path}", pack=True)
    with pytest.raises(DataError, match="1 document, and one must be held out"):
        gd.load(name=f"text:{path}", documents="nowhere")
    with pytest.raises(ConfigError, match="not empty"):
        gd.load(name=f"text:{path}", documents="")


def test_packed_rows_stream_like_any(tmp_path: Path):
    d = gd.load(name=f"text:{text_of(tmp_path)}", documents="\n\n", length=32, pack=True)
    stream = d.train.stream("shuffled", 4, seed=1)
    batch = stream[0]
    assert batch.keys() == {"tokens", "segment", "mask"}
    assert batch["tokens"].shape == (4, 33)


def test_a_catalogues_examples_are_documents(tmp_path: Path):
    from genjax.data.sources._unpack import write_text
    from genjax.data.sources.tfds import _examples

    examples = ["one\ntwo", "", "größer", "end\n"]
    write_text(iter(examples), tmp_path / "train.txt")
    assert _examples(tmp_path, "train", "source") == examples
    assert _examples(tmp_path, "train", None) == ["\n".join(examples)]
