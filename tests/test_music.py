"""Music: chorales as rolls and voices, drawn, written as MIDI and heard."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import genjax.data as gd
from genjax.errors import ConfigError, DataError
from genjax.music import midi, notes, picture, sound
from genjax.music.notes import REST, Note
from genjax.music.save import medley, roll_pieces, save, sheet, voice_pieces

COUNTS = {"train": 5, "valid": 2, "test": 3}


def chorale(steps: int, seed: int) -> np.ndarray:
    """(steps, 4) pitches, voices in order, that change every fourth step."""
    random = np.random.RandomState(seed)
    moves = random.randint(-2, 3, (-(-steps // 4), 4)) + np.array([72, 65, 60, 50])
    return np.repeat(moves, 4, axis=0)[:steps].astype(np.int16)


def originals(root: Path) -> dict[str, list[np.ndarray]]:
    """A folder of originals with both files, of small pieces made here; the voices that are in them."""
    from scipy.io import savemat

    folder = root / "jsb_chorales"
    folder.mkdir(parents=True)
    voices = {
        part: [chorale(16 * (i + 1) + 4 * i, 10 * k + i) for i in range(n)]
        for k, (part, n) in enumerate(COUNTS.items())
    }
    cells = {}
    for part, found in voices.items():
        cells[f"{part}data"] = np.empty((1, len(found)), object)
        for i, v in enumerate(found):
            cells[f"{part}data"][0, i] = notes.roll_of_voices(v[::4])
    savemat(folder / "JSB_Chorales.mat", cells)
    frames = {part: [v.tolist() for v in found] for part, found in voices.items()}
    (folder / "jsb-chorales-16th.json").write_text(json.dumps(frames))
    return voices


def load(root: Path, name: str, **changes) -> gd.Dataset:
    return gd.load(name=name, originals=str(root), **changes)


def every(split) -> dict[str, np.ndarray]:
    return split.rows(np.arange(len(split)))


def test_rolls_have_each_frame_once_and_the_standard_splits(tmp_path: Path):
    voices = originals(tmp_path)
    for split, part in ((None, "valid"), ("validation", "valid"), ("test", "test")):
        d = load(tmp_path, "chorales", length=40, eval_split=split)
        assert (len(d.train), len(d.eval)) == (5, COUNTS[part])
        rows = every(d.eval)
        assert rows["roll"].dtype == np.uint8
        assert d.spec["roll"].shape == rows["roll"].shape[1:] == (41, 88)
        for n, v in enumerate(voices[part]):
            want = notes.roll_of_voices(v[::4])
            np.testing.assert_array_equal(rows["roll"][n, : len(want)], want)
            assert not rows["roll"][n, len(want) :].any()
            assert rows["segment"][n].tolist() == [n + 1] * len(want) + [0] * (41 - len(want))
    cut = load(tmp_path, "chorales", length=3)
    rows = every(cut.train)
    frames = [len(v[::4]) for v in voices["train"]]
    mask = rows["segment"][:, 1:] > 0
    assert mask.sum() == sum(f - 1 for f in frames)  # every frame but a piece's first
    first = np.concatenate([r[1:][m] for r, m in zip(rows["roll"], mask, strict=True)])
    want = np.concatenate([notes.roll_of_voices(v[::4])[1:] for v in voices["train"]])
    np.testing.assert_array_equal(first, want)


def test_voices_are_rows_of_whole_bars(tmp_path: Path):
    voices = originals(tmp_path)
    d = load(tmp_path, "chorales:voices", length=64)
    rows, special = every(d.train), d.tokenizer.special
    bars = [-(-len(v) // 16) for v in voices["train"]]
    assert len(d.train) == sum(bars)
    assert (rows["tokens"][np.cumsum([0, *bars[:-1]]), 0] == special["bos"]).all()
    bar = 0
    for v, n in zip(voices["train"], bars, strict=True):
        got = np.concatenate([d.tokenizer.voices(rows["tokens"][bar + i]) for i in range(n)])
        np.testing.assert_array_equal(got, v)
        bar += n
    padded = rows["tokens"][:, 1:] == special["pad"]
    assert (padded == (rows["token_mask"] == 0)).all()
    # eos stands where there is room for it: a piece of whole bars has none
    assert (rows["tokens"] == special["eos"]).sum() == sum(len(v) % 16 > 0 for v in voices["train"]) == 3
    assert d.spec.special == special
    assert d.spec["tokens"].levels == d.tokenizer.vocabulary
    assert load(tmp_path, "chorales:voices", length=64, eval_split="test").tokenizer.to_json() == (
        d.tokenizer.to_json()
    )


def test_training_pieces_are_moved_to_other_keys(tmp_path: Path):
    voices = originals(tmp_path)
    plain, moved = (load(tmp_path, "chorales", length=40, transpose=n) for n in (0, 2))
    assert len(moved.train) == 5 * len(plain.train)
    for k in range(-2, 3):
        own, other = plain.train.rows([0])["roll"], moved.train.rows([2 + k])["roll"]
        assert np.array_equal(np.argwhere(own) + np.array([0, 0, k]), np.argwhere(other))
    assert np.array_equal(plain.eval.rows([0])["roll"], moved.eval.rows([0])["roll"])
    moved = load(tmp_path, "chorales:voices", length=512, transpose=3)
    chords: Any = moved.tokenizer
    rows = every(moved.train)["tokens"]
    for k, row in enumerate(rows[:7], -3):
        assert np.array_equal(chords.voices(row)[: len(voices["train"][0])], voices["train"][0] + k)
    assert np.array_equal(chords.voices(every(moved.eval)["tokens"][0])[:16], voices["valid"][0][:16])
    with pytest.raises(ConfigError, match="off the 88 keys"):
        load(tmp_path, "chorales", length=40, transpose=60)


def test_packed_and_running_voices_are_told_apart(tmp_path: Path):
    voices = originals(tmp_path)
    packed = load(tmp_path, "chorales:voices", length=512, pack=True)
    rows = every(packed.train)
    found = []
    for row, segment in zip(rows["tokens"], rows["segment"], strict=True):
        for n in np.unique(segment[segment > 0]):
            one = row[segment == n]
            assert (one[0], one[-1]) == (packed.tokenizer.special["bos"], packed.tokenizer.special["eos"])
            found.append(packed.tokenizer.voices(one))
    assert sorted(len(f) for f in found) == sorted(len(v) for v in voices["train"])
    assert {f.tobytes() for f in found} == {v.tobytes() for v in voices["train"]}
    assert "token_mask" not in rows
    lanes = load(tmp_path, "chorales:voices", length=64, order="lanes", batch=2)
    segment = every(lanes.train)["segment"]
    assert segment.max() == 5
    assert (np.diff(segment[:, 0]) >= 0).all()


def test_rests_go_to_the_voices_that_were_nearest():
    nan = float("nan")
    frames = [[72, 67, 60, 48], [72, 67, nan, 48], [71, 60, 48], [50], [], [74, 66]]
    got = notes.voices_of_frames(frames)
    assert got.tolist() == [
        [72, 67, 60, 48],
        [72, 67, REST, 48],
        [71, REST, 60, 48],
        [REST, REST, REST, 50],
        [REST] * 4,
        [74, 66, REST, REST],
    ]


def test_names_of_pitches():
    assert [notes.name(p) for p in (21, 60, 61, 69)] == ["A0", "C4", "C#4", "A4"]
    assert [notes.pitch(n) for n in ("A0", "c4", "Db4", "B3", "Cb4")] == [21, 60, 61, 59, 59]
    with pytest.raises(ValueError, match="'H' is not a pitch"):
        notes.pitch("H")


def test_a_roll_and_its_voices_are_the_same_notes():
    voices = chorale(40, 3)
    voices[8:16, 2] = REST
    found = notes.notes_of_roll(notes.roll_of_voices(voices))
    key = lambda ns: sorted((n.start, n.end, n.pitch, n.voice) for n in ns)
    assert key(found) == key(notes.notes_of_voices(voices))
    assert all(n.end > n.start for n in found)
    crowd = np.zeros((2, 88), np.uint8)
    crowd[:, 30:36] = 1
    assert sorted(n.voice for n in notes.notes_of_roll(crowd)) == [0, 1, 2, 3, 4, 4]
    assert notes.notes_of_roll(np.zeros((3, 88))) == []


@pytest.mark.parametrize("steps", [1, 16, 37])
def test_midi_is_read_back_equal(tmp_path: Path, steps: int):
    voices = chorale(steps, 1)
    voices[3:9, 1] = REST
    voices[:, 3] = voices[0, 3]
    path = midi.write(tmp_path / "deep" / "a.mid", notes.notes_of_voices(voices), steps, tempo=100)
    found, length = midi.read(path)
    assert length == steps
    np.testing.assert_array_equal(midi.voices(found, length), voices)
    empty = midi.write(tmp_path / "b.mid", [], steps)
    assert midi.read(empty) == ([], steps)


def test_midi_lasts_as_long_as_it_should(tmp_path: Path):
    import mido

    path = midi.write(tmp_path / "a.mid", [Note(0, 4, 60, 0)], 8, per_quarter=4, tempo=120)
    assert mido.MidiFile(path).length == pytest.approx(1.0)  # two quarters at 120 a minute


def test_what_is_heard_is_what_is_written(tmp_path: Path):
    tune = [Note(0, 4, 69, 0), Note(4, 8, 81, 1), Note(12, 16, 57, 3)]
    path = sound.write(tmp_path / "a.wav", None, tune, 16, per_quarter=4, tempo=60)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, sound.RATE)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    assert len(samples) == pytest.approx(5 * sound.RATE, rel=0.01)  # four seconds, and one to die away
    assert 0.8 < np.abs(samples).max() / 32767 < 1

    def loudest(second: float) -> float:
        """The strongest frequency in half a second, in Hz."""
        part = samples[int(second * sound.RATE) : int((second + 0.5) * sound.RATE)].sum(1)
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part))))
        return float(np.fft.rfftfreq(len(part), 1 / sound.RATE)[spectrum.argmax()])

    assert loudest(0.3) == pytest.approx(440, abs=3)
    assert loudest(1.4) == pytest.approx(880, abs=3)
    assert loudest(3.4) == pytest.approx(220, abs=3)
    silent = samples[int(2.5 * sound.RATE) : int(2.9 * sound.RATE)]
    assert np.abs(silent).max() < 0.02 * np.abs(samples).max()


def test_a_synthesiser_of_the_system_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "timidity"
    program.write_text('#!/bin/sh\nhead -c 100 /dev/zero > "$4"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sound, "FONTS", ())
    monkeypatch.delenv("SOUNDFONT", raising=False)
    tune = [Note(0, 4, 69, 0)]
    score = midi.write(tmp_path / "a.mid", tune, 4)
    assert sound.write(tmp_path / "a.wav", score, tune, 4).read_bytes() == b"\0" * 100
    program.write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "a.wav").unlink()
    assert sound.write(tmp_path / "a.wav", score, tune, 4).read_bytes()[:4] == b"RIFF"


def test_a_picture_shows_each_voice_in_its_colour():
    ink = {
        name: np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)])
        for name, c in zip("SATBx", picture.INKS, strict=True)
    }
    drawn = np.asarray(picture.draw([Note(0, 8, 60, 0), Note(8, 16, 55, 3)], 16, width=400, height=200))

    def where(name: str) -> tuple[np.ndarray, ...]:
        return np.nonzero((np.abs(drawn.astype(int) - ink[name]) < 3).all(-1))

    soprano, bass = where("S"), where("B")
    assert len(soprano[0]) > 200
    assert soprano[1].max() < bass[1].min()  # it comes before
    assert soprano[0].max() < bass[0].min()  # and lies above
    assert not len(where("A")[0])


def test_saved_music_is_seen_read_and_heard(tmp_path: Path):
    voices = originals(tmp_path)
    for name, per_quarter, length in (("chorales:voices", 4, 512), ("chorales", 1, 30)):
        d = load(tmp_path, name, length=length)
        rows = d.train.rows([0, 1, 2])
        found = (
            voice_pieces(rows["tokens"], d.tokenizer)  # type: ignore[arg-type]
            if "tokens" in rows
            else roll_pieces(rows["roll"], rows["segment"][:, 1:] > 0)
        )
        path = save(found, tmp_path / "out" / name[-4:], heard=2)
        assert path.suffix == ".png"
        with Image.open(path) as drawn:
            assert drawn.width > 600
        assert path.with_suffix(".wav").stat().st_size > 10_000
        found, steps = midi.read(path.with_suffix(".mid"), per_quarter=per_quarter)
        first, second = (v[:: 4 // per_quarter] for v in voices["train"][:2])
        assert steps == len(first) + 4 * per_quarter + len(second)
        got = midi.voices(found, steps)
        np.testing.assert_array_equal(got[: len(first)], first)
        np.testing.assert_array_equal(got[-len(second) :], second)
        assert (got[len(first) : -len(second)] == REST).all()
    shown = gd.preview(d, 4)
    assert isinstance(shown, Image.Image)
    table = gd.describe(d)
    assert "chorales as piano rolls: 5 to train" in table
    every_pitch = np.concatenate(voices["train"])
    low, high = notes.name(int(every_pitch.min())), notes.name(int(every_pitch.max()))
    assert f"4.00 notes at once on average, from {low} to {high}" in table


def test_pieces_of_samples_and_of_packed_rows(tmp_path: Path):
    voices = originals(tmp_path)
    packed = load(tmp_path, "chorales:voices", length=1000, pack=True)
    rows = every(packed.train)
    found = voice_pieces(rows["tokens"], packed.tokenizer, rows["segment"])
    assert sorted(p.steps for p in found) == sorted(len(v) for v in voices["train"])
    drawn = packed.tokenizer.piece(voices["train"][0])[None]  # what a model draws has no mask
    (one,) = voice_pieces(drawn, packed.tokenizer)
    assert one.notes == notes.notes_of_voices(voices["train"][0])
    assert medley([one, one])[1] == 2 * one.steps + 16
    nothing = sheet(roll_pieces(np.zeros((1, 8, 88), np.uint8)))
    assert nothing.width >= 320
    with pytest.raises(ValueError, match="no piece"):
        sheet([])
    with pytest.raises(ValueError, match="no piece"):
        picture.sheet([])


def test_originals_that_are_not_there_or_not_chorales(tmp_path: Path):
    folder = tmp_path / "jsb_chorales"
    folder.mkdir()
    for name, file, says in (
        ("chorales", "JSB_Chorales.mat", "cannot be read as a MATLAB file"),
        ("chorales:voices", "jsb-chorales-16th.json", "does not hold chorales"),
    ):
        with pytest.raises(DataError, match=f"lacks originals in .*{file}"):
            load(tmp_path, name)
        (folder / file).write_text("{}")
        with pytest.raises(DataError, match=f"{file} {says}"):
            load(tmp_path, name)
    (folder / "jsb-chorales-16th.json").write_text('{"train": [[[1, 2, 3, 4, 5]]], "valid": [], "test": []}')
    with pytest.raises(DataError, match="does not hold chorales"):
        load(tmp_path, "chorales:voices")
    for name, says in (("chorales:piano", "no chorales as 'piano'"),):
        with pytest.raises(DataError, match=says):
            load(tmp_path, name)
    with pytest.raises(DataError, match="no split 'tset'"):
        load(tmp_path, "chorales", eval_split="tset")
    with pytest.raises(ConfigError, match="a multiple of 4"):
        load(tmp_path, "chorales:voices", length=30)
    with pytest.raises(ConfigError, match="not packed"):
        load(tmp_path, "chorales", pack=True)
