"""Piano rolls of .mat and .npz files and of MIDI folders: what is read, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

import genjax.data as gd
from genjax.data.pieces import Pieces
from genjax.data.sources import _midifolder, _rollfiles
from genjax.errors import ConfigError, DataError, GenjaxError
from genjax.music import midi, notes
from genjax.music.notes import Note

QUICK = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Roll = np.ndarray
Parts = Mapping[str, Sequence[Roll]]


def roll(frames: int, seed: int = 0, share: float = 0.05) -> Roll:
    """A random roll; its last frame sounds."""
    random = np.random.default_rng(seed)
    out = (random.random((frames, 88)) < share).astype(np.uint8)
    out[-1, 40] = 1
    return out


def three(seed: int = 0) -> dict[str, list[Roll]]:
    """Pieces of three parts."""
    sizes = {"train": (9, 4, 30), "valid": (7, 12), "test": (5,)}
    return {p: [roll(n, seed + n) for n in found] for p, found in sizes.items()}


def write_mat(path: Path, parts: Parts, dtype: type = np.uint8) -> Path:
    cells = {}
    for part, pieces in parts.items():
        cells[f"{part}data"] = np.empty((1, len(pieces)), object)
        for i, x in enumerate(pieces):
            cells[f"{part}data"][0, i] = np.asarray(x).astype(dtype)
    savemat(path, cells)
    return path


def write_flat(path: Path, parts: Parts) -> Path:
    arrays = {part: np.concatenate(list(pieces)) for part, pieces in parts.items()}
    np.savez(path, **arrays, **{f"{p}_lengths": np.array([len(x) for x in xs]) for p, xs in parts.items()})
    return path


def write_padded(path: Path, parts: Parts) -> Path:
    longest = max(len(x) for xs in parts.values() for x in xs)
    padded = {
        p: np.stack([np.pad(x, ((0, longest - len(x)), (0, 0))) for x in xs]) for p, xs in parts.items()
    }
    np.savez(path, **padded, **{f"{p}_lengths": np.array([len(x) for x in xs]) for p, xs in parts.items()})
    return path


def write_midi(folder: Path, parts: Parts, per_quarter: int = 4) -> Path:
    for part, pieces in parts.items():
        where = folder if part == _rollfiles.WHOLE else folder / part
        for i, x in enumerate(pieces):
            midi.write(where / f"{i:03}.mid", notes.notes_of_roll(x), len(x), per_quarter=per_quarter)
    return folder


def same(got: Parts, want: Parts) -> None:
    assert {p: len(x) for p, x in got.items()} == {p: len(x) for p, x in want.items()}
    for part in want:
        for a, b in zip(got[part], want[part], strict=True):
            assert a.dtype == np.uint8
            np.testing.assert_array_equal(a, b)


def pieces_of(split: gd.Split) -> list[bytes]:
    """The pieces of a split, put together again from its rows."""
    rows = split.rows(range(len(split)))
    found: dict[int, list[Roll]] = {}
    for x, segment in zip(rows["roll"], rows["segment"], strict=True):
        number = int(segment[0])
        inside = x[segment == number]
        # A row repeats the last frame of the row before it.
        found[number] = [*found.get(number, []), inside[1:] if number in found else inside]
    return [np.concatenate(parts).tobytes() for parts in found.values()]


# --- what is read back equals what was written ----------------------------------------------------------

lengths = st.lists(st.integers(2, 30), min_size=1, max_size=4)
parts_of = st.fixed_dictionaries({"train": lengths}, optional={"valid": lengths, "test": lengths})


@QUICK
@given(sizes=parts_of, seed=st.integers(0, 99), dtype=st.sampled_from([np.uint8, np.float64, bool]))
def test_arrays_are_read_back_equal(tmp_path: Path, sizes: dict, seed: int, dtype: type):
    parts = {p: [roll(n, seed + i) for i, n in enumerate(found)] for p, found in sizes.items()}
    same(_rollfiles.read_mat(write_mat(tmp_path / "a.mat", parts, dtype)), parts)
    same(_rollfiles.read_npz(write_flat(tmp_path / "a.npz", parts)), parts)
    same(_rollfiles.read_npz(write_padded(tmp_path / "b.npz", parts)), parts)


@QUICK
@given(
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    per_quarter=st.sampled_from([1, 2, 4, 12]),
    share=st.sampled_from([0.01, 0.2, 0.7]),
)
def test_midi_files_are_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, sizes: list, seed: int, per_quarter: int, share: float
):
    folder = tmp_path_factory.mktemp("midi")
    want = {"whole": [roll(n, seed + i, share) for i, n in enumerate(sizes)]}
    got, lost = _midifolder.read_folder(write_midi(folder, want, per_quarter), per_quarter)
    same(got, want)
    assert lost == 0


@QUICK
@given(sizes=st.lists(st.integers(2, 50), min_size=1, max_size=6), length=st.integers(1, 60))
def test_every_frame_but_the_first_of_a_piece_is_a_target_once(sizes: list[int], length: int):
    want = [roll(n, i) for i, n in enumerate(sizes)]
    rows = Pieces(want, length)
    for form in (rows, rows.overlapping()):
        assert form.bounds is not None
        assert form.bounds[-1] == len(form)
        got = form(np.arange(len(form)))
        mask = (got["segment"][:, 1:] > 0) * got.get("token_mask", 1)
        for n, x in enumerate(want):
            here = slice(form.bounds[n], form.bounds[n + 1])
            assert set(np.unique(got["segment"][here])) <= {0, n + 1}
            targets = got["roll"][here, 1:][mask[here] > 0]
            np.testing.assert_array_equal(targets, x[1:])
        assert not got["roll"][got["segment"] == 0].any()
    # Behind the first row of a piece, at least half a row of frames lies before every target that counts.
    over = rows.overlapping()(np.arange(len(rows.overlapping())))
    if "token_mask" in over:
        later = np.flatnonzero(over["token_mask"][:, 0] == 0)
        assert all(over["token_mask"][r].argmax() + 1 > length / 2 for r in later)


@QUICK
@given(sizes=st.lists(st.integers(2, 30), min_size=1, max_size=5), length=st.integers(1, 12), data=st.data())
def test_a_limit_keeps_the_first_rows(sizes: list[int], length: int, data: st.DataObject):
    rows = Pieces([roll(n, i) for i, n in enumerate(sizes)], length)
    limit = data.draw(st.integers(1, len(rows) + 3))
    kept = rows.first(limit)
    assert len(kept) == min(limit, len(rows))
    assert kept.bounds is not None
    whole, part = rows(np.arange(len(kept))), kept(np.arange(len(kept)))
    for name in whole:
        np.testing.assert_array_equal(whole[name], part[name])


# --- parts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["mat", "flat", "padded", "midi"])
def test_parts_of_the_file_are_used_as_they_are(form: str, tmp_path: Path):
    write = {"mat": write_mat, "flat": write_flat, "padded": write_padded, "midi": write_midi}[form]
    parts = three()
    path = write(tmp_path / {"mat": "a.mat", "midi": "a"}.get(form, "a.npz"), parts)
    for split, part in ((None, "valid"), ("validation", "valid"), ("test", "test")):
        d = gd.load(name=f"rolls:{path}", length=8, eval_split=split)
        assert pieces_of(d.train) == [x.tobytes() for x in parts["train"]]
        assert pieces_of(d.eval) == [x.tobytes() for x in parts[part]]
        assert d.spec["roll"].rate == (4 if form == "midi" else 1)
    again = gd.load(name=f"rolls:{path}", length=8)
    assert again.fingerprint == gd.load(name=f"rolls:{path}", length=8).fingerprint != d.fingerprint


def test_without_parts_the_same_pieces_are_held_out_every_time(tmp_path: Path):
    pieces = [roll(5 + i, i) for i in range(20)]
    write_midi(tmp_path / "midi", {"whole": pieces})
    np.savez(tmp_path / "a.npz", roll=np.concatenate(pieces), roll_lengths=[len(x) for x in pieces])
    write_mat(tmp_path / "a.mat", {"train": pieces})
    found = []
    for name in ("midi", "a.npz", "a.mat"):
        d = gd.load(name=f"rolls:{tmp_path / name}", length=8, eval_fraction=0.25)
        train, held = pieces_of(d.train), pieces_of(d.eval)
        assert (len(train), len(held)) == (15, 5)
        assert sorted(train + held) == sorted(x.tobytes() for x in pieces)
        found.append(held)
    assert found[0] == found[1] == found[2]
    write_midi(tmp_path / "two", {"whole": pieces[:2]})
    assert len(gd.load(name=f"rolls:{tmp_path / 'two'}", length=8).eval) == 1


def test_test_pieces_stand_in_for_missing_validation_pieces(tmp_path: Path):
    parts = three()
    del parts["valid"]
    d = gd.load(name=f"rolls:{write_mat(tmp_path / 'a.mat', parts)}", length=40)
    assert pieces_of(d.eval) == [x.tobytes() for x in parts["test"]]
    assert "(test)" in d.info


def test_training_pieces_are_moved_to_other_keys(tmp_path: Path):
    parts = {p: [np.pad(x[:, 20:60], ((0, 0), (20, 28))) for x in xs] for p, xs in three().items()}
    path = write_mat(tmp_path / "a.mat", parts)
    moved = gd.load(name=f"rolls:{path}", length=40, transpose=2)
    assert pieces_of(moved.train) == [
        np.roll(x, k, axis=1).tobytes() for x in parts["train"] for k in range(-2, 3)
    ]
    assert pieces_of(moved.eval) == [x.tobytes() for x in parts["valid"]]
    with pytest.raises(ConfigError, match="off the 88 keys"):
        gd.load(name=f"rolls:{path}", length=40, transpose=40)


# --- MIDI files of other programs ------------------------------------------------------------------------


def song(
    path: Path, *events: tuple[int, str, int, int, int], end: int = 0, ticks: int = 96, kind: int = 1
) -> Path:
    """Write a MIDI file of (delta, type, channel, pitch, velocity)."""
    file = mido.MidiFile(ticks_per_beat=ticks, type=kind)
    track = mido.MidiTrack()
    for delta, name, channel, pitch, velocity in events:
        track.append(mido.Message(name, channel=channel, note=pitch, velocity=velocity, time=delta))
    track.append(mido.MetaMessage("end_of_track", time=end))
    file.tracks.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save(path)
    return path


def test_drums_are_left_out_and_no_note_is_lost(tmp_path: Path):
    path = song(
        tmp_path / "a.mid",
        (0, "note_on", 0, 60, 64),
        (0, "note_on", 9, 40, 64),  # a drum
        (2, "note_on", 0, 60, 0),  # shorter than a frame
        (94, "note_on", 1, 62, 64),
        (48, "note_on", 2, 10, 64),  # lower than a piano
        (0, "note_on", 0, 64, 64),  # never ended
        (48, "note_off", 1, 62, 0),
        end=96,
    )
    got, lost = _midifolder.read(path, 4)
    assert got.shape == (12, 88)
    assert lost == 1
    assert {n[:3] for n in notes.notes_of_roll(got)} == {(0, 1, 60), (4, 8, 62), (6, 12, 64)}
    song(tmp_path / "b.mid", (0, "note_on", 0, 60, 64), (96, "note_off", 0, 60, 0))
    d = gd.load(name=f"rolls:{tmp_path}", length=8)
    assert "1 notes outside of the piano's keys left out" in d.info
    assert "1 notes outside" in gd.describe(d)


def test_frames_of_a_quarter_note(tmp_path: Path):
    for name in ("a.mid", "b.MIDI"):
        song(tmp_path / name, (0, "note_on", 0, 60, 64), (192, "note_off", 0, 60, 0), end=96)
    for per_quarter in (1, 2, None, 12):
        d = gd.load(name=f"rolls:{tmp_path}", length=40, per_quarter=per_quarter)
        count = per_quarter or 4
        assert d.spec["roll"].rate == count
        row = d.train.rows([0])
        assert (row["segment"][0] > 0).sum() == 3 * count
        assert row["roll"][0].sum() == 2 * count


# --- what is refused ---------------------------------------------------------------------------------------


def refused(path: Path, *says: str, **changes) -> None:
    """Loading is one error that names the file, with a hint."""
    with pytest.raises(GenjaxError) as caught:
        gd.load(name=f"rolls:{path}", length=8, **changes)
    for part in (path.name, *says):
        assert part in str(caught.value), str(caught.value)
    assert caught.value.hint


def wrong(change: Callable[[Roll], object]) -> dict[str, list]:
    """Parts of which one piece is changed."""
    parts: dict[str, list] = {p: list(x) for p, x in three().items()}
    parts["valid"][1] = change(parts["valid"][1])
    return parts


def loud(x: Roll) -> Roll:
    x = x.astype(float)
    x[3, 5] = 0.5
    return x


WRONG: list[tuple[Callable[[Roll], object], tuple[str, ...]]] = [
    (loud, ("value 0.5", "frame 3, key 5", "binary")),
    (lambda x: x * 127, ("value 127", "binary")),
    (lambda x: np.where(x > 0, np.nan, 0), ("value nan",)),
    (lambda x: -x.astype(int), ("value -1",)),
    (lambda x: x[:, :60], ("(12, 60)", "(frames, 88)")),
    (lambda x: np.pad(x, ((0, 0), (21, 19))), ("(12, 128)", "x[:, 21:109]")),
    (lambda x: x.T, ("(88, 12)", "transpose it")),
    (lambda x: x[:1], ("1 frames", "at least 2")),
    (lambda x: x[:0], ("0", "frames")),
    (lambda x: "no roll", ("does not hold numbers",)),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_pieces_that_are_no_rolls_are_named(case: int, tmp_path: Path):
    change, says = WRONG[case]
    cells = {
        f"{part}data": np.array([*pieces, None], object)[:-1].reshape(1, -1)
        for part, pieces in wrong(change).items()
    }
    savemat(tmp_path / "a.mat", cells)
    refused(tmp_path / "a.mat", "validdata: piece 1", *says)


def test_wrong_names_of_arrays(tmp_path: Path):
    mat, npz = tmp_path / "a.mat", tmp_path / "a.npz"
    write_mat(mat, {"valid": three()["valid"]})
    refused(mat, "no traindata", "validdata")
    write_mat(mat, {"train": three()["train"], "tset": three()["test"]})
    refused(mat, "unknown array 'tsetdata'", "did you mean 'testdata'")
    savemat(mat, {"traindata": np.zeros((5, 88))})
    refused(mat, "not a cell array")
    savemat(mat, {"traindata": np.empty((1, 0), object)})
    refused(mat, "no pieces")
    x = three()["train"][0]
    np.savez(npz, x)
    refused(npz, "no train", "arr_0")
    np.savez(npz)
    refused(npz, "no train", "nothing")
    np.savez(npz, train=x[None], vaild=x[None])
    refused(npz, "unknown array 'vaild'", "did you mean 'valid'")
    np.savez(npz, train=x)
    refused(npz, "train has the shape (9, 88)", "train_lengths")
    for lengths in ([4, 4], [9.0], [[9]], [-1, 10], [9, 1]):
        np.savez(npz, train=x, train_lengths=lengths)
        refused(npz, "train")
    np.savez(npz, train=x[None], train_lengths=[4])
    refused(npz, "piece 0 has notes after its 4 frames")
    np.savez(npz, train=x[None] * 2)
    refused(npz, "train: piece 0", "value 2")


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(tmp_path: Path):
    done = tmp_path / "done"
    x = np.empty(1, object)
    x[0] = Evil(done)
    np.savez(tmp_path / "a.npz", train=x)
    refused(tmp_path / "a.npz", "pickled")
    np.save(tmp_path / "b.npy", x)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    refused(tmp_path / "b.npz", "not an .npz file")
    (tmp_path / "c.pickle").write_bytes(b"\x80\x04N.")
    refused(tmp_path / "c.pickle", "pickle", "run code")
    assert not done.exists()


def test_damaged_files_are_named(tmp_path: Path):
    files = {
        "a.mat": write_mat(tmp_path / "a.mat", three()),
        "a.npz": write_flat(tmp_path / "a.npz", three()),
    }
    for name, path in files.items():
        whole = path.read_bytes()
        for kept in (0, 3, 140, len(whole) // 2, len(whole) - 30):
            path.write_bytes(whole[:kept])
            refused(path)
        broken = bytearray(whole)
        broken[len(whole) // 2 : len(whole) // 2 + 40] = bytes(range(40))
        path.write_bytes(bytes(broken))
        if name == "a.npz":  # a zip has checksums
            refused(path)
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    refused(tmp_path / "a.mat", "version 7.3")


def test_midi_files_that_cannot_be_read_are_named(tmp_path: Path):
    good = write_midi(tmp_path / "good", {"whole": [roll(8), roll(9, 1)]})
    bad = good / "b.mid"
    whole = (good / "000.mid").read_bytes()
    for content in (b"", b"not MIDI", whole[:30], whole[: len(whole) // 2], whole[:22] + b"\xff" * 60):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"b\.mid"):
            gd.load(name=f"rolls:{good}", length=8)
    song(bad, (0, "note_on", 9, 60, 64), end=960)
    with pytest.raises(DataError, match=r"b\.mid has no note"):
        gd.load(name=f"rolls:{good}", length=8)
    song(bad, (0, "note_on", 0, 60, 64), (1, "note_off", 0, 60, 64))
    with pytest.raises(DataError, match=r"b\.mid has 1 frame at 4 a quarter note"):
        gd.load(name=f"rolls:{good}", length=8)
    song(bad, (0, "note_on", 0, 60, 64), (200_000_000, "note_off", 0, 60, 64))
    with pytest.raises(DataError, match=r"b\.mid lasts 8,333,333 frames"):
        gd.load(name=f"rolls:{good}", length=8)
    song(bad, (0, "note_on", 0, 60, 64), end=960, kind=2)
    with pytest.raises(DataError, match=r"b\.mid .*type 2"):
        gd.load(name=f"rolls:{good}", length=8)
    content = bytearray(song(bad, (0, "note_on", 0, 60, 64), end=960).read_bytes())
    content[12:14] = b"\xe7\x28"  # SMPTE: 25 frames of a second, 40 ticks each
    bad.write_bytes(content)
    with pytest.raises(DataError, match=r"b\.mid .*SMPTE"):
        gd.load(name=f"rolls:{good}", length=8)


def test_folders_whose_parts_are_not_clear(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    refused(tmp_path / "empty", "no .mid or .midi file")
    one = {"train": [roll(5)], "test": [roll(6)]}
    refused(write_midi(tmp_path / "single", {"whole": [roll(5)]}), "one piece")
    refused(write_midi(tmp_path / "outside", one | {"extra": [roll(7)]}), "extra", "outside of the parts")
    refused(write_midi(tmp_path / "twice", one | {"val": [roll(7)], "valid": [roll(7)]}), "val, valid")
    refused(write_midi(tmp_path / "lacks", {"test": [roll(7)], "more": [roll(7)]}), "test and no train")
    refused(write_midi(tmp_path / "whole", {"whole": [roll(7), roll(8)]}), "no parts", eval_split="test")
    refused(write_midi(tmp_path / "two", one), "validation", eval_split="validation")
    refused(tmp_path / "single" / "000.mid", "one piece")
    (tmp_path / "a.csv").write_text("0,1")
    refused(tmp_path / "a.csv", "no .mat or .npz file")
    refused(tmp_path / "ab.csv", "did you mean 'a.csv'")
    with pytest.raises(ConfigError, match="not packed"):
        gd.load(name=f"rolls:{tmp_path / 'two'}", pack=True)


def test_a_roll_of_notes_keeps_short_ones_and_counts_those_outside():
    got, lost = notes.roll_of_notes([Note(3, 3, 60, 0), Note(0, 2, 20, 0), Note(1, 2, 109, 1)], 2)
    assert (got.shape, lost) == ((4, 88), 2)
    assert list(zip(*np.nonzero(got), strict=True)) == [(3, 39)]
    for low, high in itertools.pairwise((21, 108)):
        assert notes.roll_of_notes([Note(0, 1, low, 0), Note(0, 1, high, 0)], 1)[1] == 0
