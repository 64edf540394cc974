"""Text-to-text pairs: read from any form of file, batched by length, each row once an epoch."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import originals
import pytest

import genjax.data as gd
from genjax.core import Aux, Element, Mean, Model, Phase, Spec, Variables
from genjax.data.buckets import Buckets
from genjax.data.dataset import Dataset, Split
from genjax.data.pairs import Pairs, Ragged
from genjax.data.stream import Stream
from genjax.errors import ConfigError, DataError
from genjax.training import Config, loop, optimizers
from genjax.training.engine import Engine, compilations

ENGLISH = [f"a {c} {n} runs" for n in ("dog", "man", "boy", "girl") for c in ("red", "small", "tall")]
GERMAN = [f"ein {c} {n} läuft" for n in ("Hund", "Mann", "Bub", "Mädchen") for c in ("roter", "x", "großer")]
SIZES = [3, 5, 8, 13]


def ragged(n: int, seed: int = 0, buckets=SIZES) -> Pairs:
    """n pairs of lengths 1 to 13; a source's first token is its row."""
    random = np.random.RandomState(seed)
    side = [[np.r_[i, random.randint(0, 9, random.randint(0, 13))] for i in range(n)] for _ in range(2)]
    return Pairs(Ragged(side[0]), Ragged(side[1]), 13, 99, buckets)


def write(folder: Path, words=("train", "val"), suffix: str = "") -> None:
    for k, word in enumerate(words):
        for name, lines in (("en", ENGLISH), ("de", GERMAN)):
            data = ("\n".join(x + "." * k for x in lines) + "\n").encode()
            path = folder / f"{word}.{name}{suffix}"
            path.write_bytes(gzip.compress(data) if suffix else data)


def texts(d: gd.Dataset, split: Split) -> list[tuple[str, str]]:
    rows = split.rows(np.arange(len(split)))
    return list(zip(*([d.tokenizer.decode(t) for t in rows[k]] for k in ("source", "target")), strict=True))


def check_form(d: gd.Dataset) -> None:
    special = d.tokenizer.special
    for split in (d.train, d.eval):
        rows = split.rows(np.arange(len(split)))
        for side in ("source", "target"):
            x, n = rows[side], rows[f"{side}_length"]
            assert x.shape[1:] == d.spec[side].shape
            assert x.dtype == n.dtype == np.int32
            assert (x[np.arange(len(x)), n - 1] == special["eos"]).all()
            assert ((np.arange(x.shape[1]) < n[:, None]) == (x != special["pad"])).all()
            assert d.spec[side].levels == d.tokenizer.vocabulary


def test_parallel_files_with_their_validation(tmp_path: Path):
    write(tmp_path, suffix=".gz")
    name = f"pairs:{tmp_path}/train.en.gz,{tmp_path}/train.de.gz"
    for tokenizer in ("bpe", "bytes", "chars"):
        d = gd.load(name=name, tokenizer=tokenizer, vocabulary=300, length=40)
        assert texts(d, d.train) == list(zip(ENGLISH, GERMAN, strict=True))
        assert texts(d, d.eval) == [(a + ".", b + ".") for a, b in zip(ENGLISH, GERMAN, strict=True)]
        check_form(d)
        assert d.spec.special == d.tokenizer.special
    assert gd.load(name=f"pairs:{tmp_path}", length=40).train.rows([0])["source"].shape == (1, 40)


def test_other_forms_hold_the_same_pairs(tmp_path: Path):
    pairs = list(zip(ENGLISH, GERMAN, strict=True))
    (tmp_path / "a").mkdir()
    write(tmp_path / "a")
    (tmp_path / "train.tsv").write_text("".join(f"{a}\t{b}\r\n" for a, b in pairs))
    lines = "\n".join(json.dumps({"source": a, "target": b}) for a, b in pairs)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "dev.tsv").write_text("one\ttwo\n")
    tsv = gd.load(name=f"pairs:{tmp_path}/train.tsv", length=40)
    assert texts(tsv, tsv.train) == pairs
    assert texts(tsv, tsv.eval) == [("one", "two")]
    both = f"{tmp_path}/a/val.en,{tmp_path}/a/val.de"
    d = gd.load(name=f"pairs:{tmp_path}", length=40, eval_split=both)
    assert texts(d, d.train) == pairs
    assert texts(d, d.eval)[0] == (ENGLISH[0] + ".", GERMAN[0] + ".")
    by_name = gd.load(name=f"pairs:{tmp_path}/a", length=40)  # de comes before en
    assert texts(by_name, by_name.train) == [(b, a) for a, b in pairs]
    divided = gd.load(name=f"pairs:{tmp_path}/b.jsonl.gz", length=40, eval_fraction=0.25)
    assert (len(divided.train), len(divided.eval)) == (9, 3)
    assert sorted(texts(divided, divided.train) + texts(divided, divided.eval)) == sorted(pairs)


def test_multi30k_reads_the_originals(tmp_path: Path):
    folder = tmp_path / "multi30k"
    folder.mkdir()
    write(folder, ("train", "val", "test_2016_flickr"), ".gz")
    here = {"originals": str(tmp_path), "length": 40}
    d = gd.load(name="multi30k", **here)
    assert texts(d, d.eval)[0] == (ENGLISH[0] + ".", GERMAN[0] + ".")
    test = gd.load(name="multi30k:de-en", eval_split="test", **here)
    assert texts(test, test.eval)[0] == (GERMAN[0] + "..", ENGLISH[0] + "..")
    check_form(test)
    page = gd.preview(d, 2)
    assert isinstance(page, str)
    assert any(line.split("→")[-1].strip() in GERMAN for line in page.splitlines())
    assert "en to de" in gd.describe(d)
    for changes, says in (
        ({"name": "multi30k:en-fr"}, r"lacks originals in .*train\.fr\.gz, val\.fr\.gz"),
        ({"name": "multi30k:en-xx"}, "has no pair 'en-xx'"),
        ({"name": "multi30k", "eval_split": "dev"}, "no split 'dev'"),
    ):
        with pytest.raises(DataError, match=says):
            gd.load(**{**here, **changes})


def test_generated_originals_are_read_as_the_true_ones(tmp_path: Path):
    given = {"originals": str(originals.write(tmp_path)), "length": 64}
    for name in ("multi30k", "multi30k:fr-en"):
        d = gd.load(name=name, **given)
        assert (len(d.train), len(d.eval)) == (originals.CAPTIONS["train"], originals.CAPTIONS["val"])
        check_form(d)
    assert len(set(texts(d, d.train))) > 50
    rolls = gd.load(name="chorales", transpose=5, **given)
    voices = gd.load(name="chorales:voices", **given)
    for d in (rolls, voices):
        assert f"{originals.PIECES['train']} to train, {originals.PIECES['valid']} to evaluate" in d.info
    assert rolls.spec["roll"].shape == (65, 88)
    assert voices.spec["tokens"].kind == "voices"


def test_without_a_folder_of_originals(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GENJAX_ORIGINALS", raising=False)
    with pytest.raises(DataError, match=r"set GENJAX_ORIGINALS or data\.originals"):
        gd.load(name="multi30k")


def test_long_pairs_are_left_out_of_training_and_cut_in_evaluation(tmp_path: Path):
    write(tmp_path)
    d = gd.load(name=f"pairs:{tmp_path}/train.en,{tmp_path}/train.de", length=23)
    fits = [max(len(a.encode()), len(b.encode())) < 23 for a, b in zip(ENGLISH, GERMAN, strict=True)]
    assert 0 < sum(fits) < len(fits)
    assert len(d.train) == sum(fits)
    assert len(d.eval) == len(ENGLISH)
    assert f"{len(fits) - sum(fits)} of 12 train pairs longer than 23 tokens left out" in d.info
    check_form(d)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("a\tb\nc\n", r"train\.tsv:2 has 0 tabs"),
        ("a\tb\tc\n", r"train\.tsv:1 has 2 tabs"),
        ("a\tb\n", "has 1 pairs"),
    ],
)
def test_files_that_hold_no_pairs(tmp_path: Path, lines: str, says: str):
    (tmp_path / "train.tsv").write_text(lines)
    with pytest.raises(DataError, match=says):
        gd.load(name=f"pairs:{tmp_path}/train.tsv")


def test_names_and_files_that_do_not_fit(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "short.de").write_text("eins\n")
    (tmp_path / "x.jsonl").write_text('{"source": "a"}\n')
    (tmp_path / "bad.tsv.gz").write_bytes(b"not gzip")
    for name, says in (
        ("", "pairs:PATH"),
        (f"{tmp_path}/train.en", r"neither \.tsv nor \.jsonl"),
        (f"{tmp_path}/train.en,{tmp_path}/short.de", "has 12 lines, and .*short.de has 1"),
        (f"{tmp_path}/x.jsonl", r"x\.jsonl:1 lacks source or target"),
        (f"{tmp_path}/bad.tsv.gz", "cannot be read"),
        (f"{tmp_path}/trains.en,{tmp_path}/train.de", r"did you mean 'train\.en'"),
    ):
        with pytest.raises(DataError, match=says):
            gd.load(name=f"pairs:{name}")
    with pytest.raises(DataError, match="there is no 'tset'"):
        gd.load(name=f"pairs:{tmp_path}", eval_split="tset")
    with pytest.raises(ConfigError, match="rising"):
        gd.load(name=f"pairs:{tmp_path}", buckets=(8, 4))


@pytest.mark.parametrize(("n", "batch"), [(1, 4), (7, 8), (64, 8), (101, 8), (250, 16)])
def test_every_epoch_has_every_row_once(n: int, batch: int):
    rows = ragged(n)
    stream = Stream(rows, "shuffled", batch, seed=3)
    per_epoch = int(stream.steps_per_epoch)
    assert per_epoch == -(-n // batch)
    epochs = []
    for e in range(3):
        seen = []
        for i in range(e * per_epoch, (e + 1) * per_epoch):
            b = stream[i]
            width = b["source"].shape[1]
            assert width in SIZES
            assert b["source"].shape == b["target"].shape == (batch, width)
            longest = max(b["source_length"].max(), b["target_length"].max())
            assert longest <= width
            assert b["mask"].all() or i % per_epoch == per_epoch - 1
            seen += b["source"][b["mask"] > 0, 0].tolist()
        assert sorted(seen) == list(range(n))
        epochs.append(seen)
    if n > 20:
        assert epochs[0] != epochs[1] != epochs[2]


def test_nearly_every_batch_is_of_one_bucket():
    rows = ragged(1000)
    buckets = Buckets(rows.sizes, SIZES, 8, seed=0, shuffled=True)
    mixed = 0
    for i in range(buckets.batches):
        index, _, width = buckets(i, (0, 8))
        smallest = np.array(SIZES)[np.searchsorted(SIZES, rows.sizes[index])]
        assert smallest.max() == width
        mixed += (smallest < width).any()
    assert mixed < len(SIZES)
    widths = [buckets(i, (0, 8))[2] for i in range(buckets.batches)]
    assert widths != sorted(widths)
    with pytest.raises(ConfigError, match="a row of length 13 fits no bucket"):
        Buckets(rows.sizes, [3, 5], 8, seed=0, shuffled=True)


def equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_array_equal(a[k], b[k])


@pytest.mark.parametrize("order", ["shuffled", "once"])
def test_batches_are_pure_on_any_host_and_from_any_start(order):
    rows = ragged(90)
    whole = Stream(rows, order, 8, seed=5)
    hosts = [Stream(ragged(90), order, 8, seed=5, process=(p, 4)) for p in range(4)]
    count = len(whole) if order == "once" else 30
    batches = list(itertools.islice(iter(whole), count))
    for i, b in enumerate(batches):
        parts = [h[i] for h in hosts]
        equal(b, {k: np.concatenate([p[k] for p in parts]) for k in b})
    rest = itertools.islice(iter(Stream(rows, order, 8, seed=5, start=7)), count - 7)
    for a, b in zip(rest, batches[7:], strict=True):
        equal(a, b)
    skipping = Stream(rows, order, 8, seed=5, skip=(0, 3))
    for i, n in enumerate((1, 2, 4, 5)):
        equal(skipping[i], whole[n])
    if order == "shuffled":
        assert (Stream(rows, order, 8, seed=6).plan(0).indices != whole.plan(0).indices).any()


def test_once_reads_each_row_once_and_its_beginning_is_a_fair_sample():
    rows = ragged(203)
    stream = Stream(rows, "once", 8)
    batches = list(stream)
    assert len(batches) == len(stream) == 26
    seen = [s for b in batches for s in b["source"][b["mask"] > 0, 0].tolist()]
    assert sorted(seen) == list(range(203))
    assert len({b["source"].shape[1] for b in batches[:8]}) > 1
    assert [m for b in batches for m in b["mask"]] == [1.0] * 203 + [0.0] * 5


def test_lanes_have_no_buckets_and_a_limit_keeps_them():
    with pytest.raises(ConfigError, match="lanes"):
        Stream(ragged(90), "lanes", 8)
    from genjax.data.rows import first

    limited = first(ragged(90), 12)
    assert len(limited) == len(limited.sizes) == 12
    assert Counter(b["source"].shape[1] for b in Stream(limited, "once", 4)).keys() <= set(SIZES)


# --- training -----------------------------------------------------------------------------------------


def model() -> Model:
    """Predicts each target token from the mean of its source's embeddings."""

    def init(key, batch, frozen):
        return Variables({"net": {"in": jax.random.normal(key, (100, 4)), "out": jnp.zeros((4, 100))}})

    def loss(variables, batch, keys, *, step):
        p = variables.params["net"]
        inside = lambda k: (jnp.arange(batch[k].shape[1])[None] < batch[f"{k}_length"][:, None]) * 1.0
        mask = inside("source")
        mean = (p["in"][batch["source"]] * mask[..., None]).sum(1) / mask.sum(1)[:, None]
        logits = jnp.broadcast_to((mean @ p["out"])[:, None], (*batch["target"].shape, 100))
        nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["target"][..., None], 2)[..., 0]
        counted = inside("target") * batch["mask"][:, None]
        return Mean.of(nats, counted), Aux({}, {"tokens": Mean.of(counted)})

    return Model(init, {"net": Phase("net", loss)})


def bucketed(buckets=SIZES) -> Dataset:
    parts = (("train", 60), ("eval", 21))
    side, size = Element((13,), "int32", 100), Element((), "int32")
    spec = Spec({"source": side, "source_length": size, "target": side, "target_length": size}, 60)
    return Dataset("toy", spec, *(Split(name, ragged(n, n, buckets)) for name, n in parts), "f" * 64)


@pytest.mark.parametrize("kind", ["jit", "pmap"])
def test_each_length_has_its_program_and_none_is_compiled_again(kind):
    data = bucketed()
    stream = data.train.stream(batch=8)
    adam = {"net": optimizers.make(optimizers.Config(), 40)}
    engine = Engine(model(), adam, Config(engine=kind), stream[0], devices=jax.devices()[:2])
    state, seen, phases = engine.create(), set(), (("net",),)
    for n in range(24):
        batch, count = stream[n], compilations()
        state, packed = engine.step(state, engine.put([batch]), phases)
        jax.block_until_ready(packed)
        width = batch["source"].shape[1]
        assert (compilations() > count) == (width not in seen)
        seen.add(width)
        (means,) = engine.read(packed, phases)
        assert float(means["net/loss"].count) == (batch["target_length"] * batch["mask"]).sum()
    assert engine.programs == len(seen) > 2


def test_training_on_buckets_resumes_bit_for_bit_and_in_calls_of_several_steps(tmp_path: Path):
    def run(directory: str, steps: int, **changes):
        config = Config(steps=steps, eval_every=0, checkpoint_every=10, log_every=5, progress=False)
        config = dataclasses.replace(config, tensorboard=False, compilation_cache=False, **changes)
        adam = {"net": optimizers.Config(learning_rate=1e-2)}
        return loop.train(
            model(),
            bucketed((6, 13)),
            config,
            adam,
            directory=tmp_path / directory,
            batch=8,
            eval_batch=8,
            devices=jax.devices()[:1],
        )

    whole = run("whole", 20)
    run("parts", 10)
    parts = run("parts", 20)
    several = run("several", 20, steps_per_call=5)
    want = whole.variables.params["net"]
    assert np.abs(want["out"]).max() > 0
    for name in want:
        np.testing.assert_array_equal(parts.variables.params["net"][name], want[name])
        np.testing.assert_allclose(several.variables.params["net"][name], want[name], rtol=1e-5, atol=1e-7)
    assert whole.metrics["net/loss"] == parts.metrics["net/loss"]
    assert whole.metrics["net/loss"] < np.log(100)
