"""Tokenizers: what is written comes back, a saved one is the same, special tokens have their names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import genjax.data as gd
from genjax.data import tokenizers
from genjax.data.tokenizers import Options
from genjax.errors import ConfigError, DataError

TEXT = "Größe 🙂 and <eos> plain\x00 text,\n  where text is text and more text.\n\tEnd" * 3
OPTIONS = {"bpe": Options(vocabulary=300, sentinels=3)}


def wordpiece(folder: Path) -> Path:
    """A tokenizer.json of another form than those that are trained here."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat"]
    vocab = {p: i for i, p in enumerate(pieces)}
    model = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    model.decoder = decoders.WordPiece()
    model.add_special_tokens(pieces[:5])
    model.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    model.enable_truncation(3)
    model.enable_padding(length=8)
    path = folder / "tokenizer.json"
    model.save(str(path))
    return path


def test_kinds_are_the_files_of_the_package():
    assert tokenizers.names() == ["bpe", "bytes", "chars", "chords", "hf", "run", "words"]
    with pytest.raises(ConfigError, match=r"unknown tokenizer 'byte' .did you mean 'bytes'"):
        tokenizers.fit("byte", TEXT)


def test_a_tokenizer_outside_the_package_is_used_and_restored(tmp_path: Path):
    (tmp_path / "a.txt").write_text(TEXT, "utf-8")
    dataset = gd.load(name=f"text:{tmp_path}", tokenizer="outside.nibbles", length=8, eval_fraction=0.5)
    assert dataset.spec["tokens"].levels == 16
    saved = json.loads(dataset.save(tmp_path / "run").read_text("utf-8"))["tokenizer"]
    again = gd.tokenizer_from_json(saved)
    assert again.decode(again.encode(TEXT)) == TEXT


def test_a_kind_by_which_a_tokenizer_is_not_found_again_is_refused(monkeypatch: pytest.MonkeyPatch):
    from outside.nibbles import Nibbles

    monkeypatch.setattr(Nibbles, "kind", "nibbles")
    with pytest.raises(ConfigError, match=r"'outside\.nibbles' has the kind 'nibbles'"):
        tokenizers.fit("outside.nibbles", TEXT)


@pytest.mark.parametrize("kind", ["bytes", "chars", "bpe"])
def test_no_text_is_lost_and_pieces_join_to_it(kind: str):
    t = tokenizers.fit(kind, TEXT, OPTIONS.get(kind, Options()))
    for text in (TEXT, "", "and", "d\x00"):
        tokens = t.encode(text)
        assert tokens.dtype == np.int32
        assert t.decode(tokens) == text
        assert b"".join(t.token_bytes()[i] for i in tokens) == text.encode()
    assert len(t.token_bytes()) == t.vocabulary > tokens.max()


@pytest.mark.parametrize("kind", ["bytes", "chars", "words", "bpe", "hf", "chords"])
def test_a_saved_tokenizer_is_the_same_without_any_file(kind: str, tmp_path: Path):
    path = wordpiece(tmp_path)
    text = "C5/G4/-/C3 D5/G4/E4/C3" if kind == "chords" else TEXT
    t = tokenizers.fit(kind, text, OPTIONS.get(kind, Options(file=str(path))))
    saved = json.dumps(t.to_json())
    path.unlink()
    again = gd.tokenizer_from_json(json.loads(saved))
    tokens = t.encode(text)
    np.testing.assert_array_equal(again.encode(text), tokens)
    assert again.decode(tokens) == t.decode(tokens)
    assert (again.vocabulary, dict(again.special)) == (t.vocabulary, dict(t.special))
    assert json.dumps(again.to_json()) == saved
    assert all(0 <= i < t.vocabulary for i in t.special.values())
    assert all(not t.token_bytes()[t.special[n]] for n in ("pad", "bos", "mask") if n in t.special)


def test_bpe_learns_what_is_frequent_and_the_same_each_time():
    text = "the cat and the hat and the bat. " * 20
    first, again = (tokenizers.fit("bpe", text, Options(vocabulary=280)) for _ in range(2))
    assert first.to_json() == again.to_json()
    assert first.vocabulary <= 280
    assert len(first.encode("the")) == 1
    assert len(first.encode("the")) < len(first.encode("zqx"))
    assert dict(first.special) == {"pad": 0, "eos": 1, "bos": 2, "unk": 3, "mask": 4}
    assert not set(first.encode("<eos> <pad>").tolist()) & set(first.special.values())
    assert first.decode([2, *first.encode("the cat"), 1, 0, 0]) == "the cat"
    many = tokenizers.fit("bpe", text, Options(vocabulary=300, sentinels=2)).special
    assert (many["sentinel_0"], many["sentinel_1"]) == (5, 6)
    with pytest.raises(ConfigError, match="at least 261"):
        tokenizers.fit("bpe", text, Options(vocabulary=260))
    pieces = first.encode_all(["the cat", "", "hat"])
    assert [first.decode(p) for p in pieces] == ["the cat", "", "hat"]


def test_words_are_ordered_by_count_and_lines_end_sentences():
    t = tokenizers.fit("words", "b a  a\n\nc a <unk> b\n", Options())
    assert t.to_json()["words"] == ["a", "b", "c"]
    assert dict(t.special) == {"unk": 0, "eos": 1}
    assert t.encode("a z\tb\n\n<unk>").tolist() == [2, 0, 3, 1, 1, 0]
    assert t.decode([3, 2, 1, 1, 4, 0]) == "b a\n\nc <unk>"
    assert b"".join(t.token_bytes()[i] for i in [3, 2, 1, 4]) == b" b a\n c"
    assert tokenizers.fit("words", "b a a", Options(min_count=2)).to_json()["words"] == ["a"]
    assert tokenizers.fit("words", "b a a c", Options(vocabulary=4)).to_json()["words"] == ["a", "b"]
    with pytest.raises(ConfigError, match="no room"):
        tokenizers.fit("words", "a", Options(vocabulary=2))


def test_any_tokenizer_file_is_read_as_its_library_reads_it(tmp_path: Path):
    from tokenizers import Tokenizer

    path = wordpiece(tmp_path)
    t = tokenizers.fit("hf", "", Options(file=str(tmp_path)))  # a folder has its tokenizer.json
    raw = Tokenizer.from_file(str(path))
    raw.no_truncation()
    raw.no_padding()
    text = "The cats sat [MASK] dog"
    assert t.encode(text).tolist() == raw.encode(text, add_special_tokens=False).ids == [5, 6, 7, 8, 4, 1]
    assert dict(t.special) == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert t.decode([2, 5, 6, 7, 3]) == "the cats"
    assert [t.token_bytes()[i] for i in (2, 6, 7)] == [b"", b" cat", b"s"]


def test_special_tokens_are_known_by_their_many_names():
    def added(*names: str) -> dict:
        return {"added_tokens": [{"id": 9 + i, "content": n} for i, n in enumerate(names)]}

    from genjax.data.tokenizers._subwords import specials

    assert specials(added("</s>", "<extra_id_1>", "<extra_id_0>", "<pad>")) == {
        "eos": 9,
        "sentinel_1": 10,
        "sentinel_0": 11,
        "pad": 12,
    }
    assert specials(added("<|endoftext|>")) == {"eos": 9, "bos": 9}
    assert specials({"model": {"unk_token": "<oov>", "vocab": {"<oov>": 3}}}) == {"unk": 3}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[]", "it holds a list"),
        ('{"model": {"type": "Nothing"}}', "is not a tokenizer"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_one_clear_error(tmp_path: Path, content: str | None, says: str):
    path = tmp_path / "t.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=says) as caught:
        gd.load(name="pydoc", tokenizer="hf", tokenizer_file=str(path))
    assert str(path) in str(caught.value)
    assert caught.value.hint
    with pytest.raises(ConfigError, match="tokenizer_file"):
        gd.load(name="pydoc", tokenizer="hf")


def test_bpe_and_words_know_the_training_text_alone(tmp_path: Path):
    (tmp_path / "a.txt").write_text("ab " * 90 + "zq " * 10)
    for kind in ("words", "bpe"):
        d = gd.load(name=f"text:{tmp_path}", tokenizer=kind, length=4, vocabulary=270)
        assert "zq" not in json.dumps(d.tokenizer.to_json(), ensure_ascii=False)
        assert d.spec.special == d.tokenizer.special
        assert d.spec["tokens"].levels == d.tokenizer.vocabulary


def test_chords_are_written_as_notes_and_read_back():
    t = tokenizers.fit("chords", "C5/G4/E4/C3 Bb4/-/E4/C3")
    voices = np.array([[72, 67, 64, 48], [70, -1, 64, 48]])
    tokens = t.piece(voices)
    assert tokens[0] == t.special["bos"]
    assert tokens[-1] == t.special["eos"]
    assert (tokens == t.special["rest"]).sum() == 1
    assert t.decode(tokens) == "C5/G4/E4/C3 A#4/-/E4/C3"
    np.testing.assert_array_equal(t.encode(t.decode(tokens)), tokens[1:-1])
    np.testing.assert_array_equal(t.voices(tokens), voices)
    np.testing.assert_array_equal(t.voices(tokens[4:-1]), voices[1:])  # a row that goes on in the middle
    assert t.voices(tokens[:3]).tolist() == [[72, 67, -1, -1]]
    for wrong, says in (("C5/H4", "'H4' is not a pitch"), ("C9", "not within")):
        with pytest.raises(DataError, match=says):
            t.encode(wrong)
