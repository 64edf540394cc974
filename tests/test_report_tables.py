"""What may stand in one column, what is called best, and how numbers and findings are worded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from genjax.errors import ProtocolError
from genjax.evaluation.scores import LIKELIHOOD_KINDS, Score
from genjax.report import charts, scoretable, sections, svg, words
from genjax.report.runs import Comparison, Run
from genjax.report.tables import bands, columns, number, spread


def score(value: float, half: float | None = 0.1, name: str = "frechet", **more) -> Score:
    low, high = (None, None) if half is None else (value - half, value + half)
    fields = {"better": "lower", "protocol": {"samples": 900}, **more}
    return Score(name, value, low, high, **fields)


def compared(rows: dict[str, list[Score]], floor: list[Score] | None = None) -> Comparison:
    entries = tuple(
        Run(Path(name), name, name, "", {"seed": 0}, {}, (), tuple(scores), name)
        for name, scores in rows.items()
    )
    return Comparison(Path("."), {}, entries, None if floor is None else tuple(floor), None)


def column(*values: tuple[float, float | None], **more):
    rows = {chr(97 + n): [score(v, h, **more)] for n, (v, h) in enumerate(values)}
    return columns(compared(rows))[0]


def test_mixed_protocols_are_refused_with_the_difference_named():
    rows = {"vae": [score(3.0)], "gpt": [score(2.0, protocol={"samples": 1000})]}
    with pytest.raises(ProtocolError, match=r"frechet.*samples.*900.*1000"):
        columns(compared(rows))


def test_a_floor_measured_otherwise_is_refused():
    with pytest.raises(ProtocolError, match=r"real against real.*'b'"):
        columns(
            compared(
                {"vae": [score(3.0, protocol={"features": "a"})]}, [score(1.0, protocol={"features": "b"})]
            )
        )


def test_likelihoods_of_different_kinds_are_different_columns():
    rows = {"gpt": [score(1.7, name="bits_per_dim/exact")], "vae": [score(2.1, name="bits_per_dim/bound")]}
    assert [c.kind for c in columns(compared(rows))] == ["exact", "bound"]
    assert columns(compared({"a": [score(1.0, name="density")]}))[0].kind == ""


def test_the_heading_is_the_scores_own_and_is_not_completed_again():
    exact = score(1.7, name="bits_per_dim/exact", label="Bits per dimension (exact)", meaning="of all rows")
    found = columns(compared({"a": [exact, score(1.0, name="samples_per_second_64", criterion="cost")]}))
    assert [c.label for c in found] == ["Bits per dimension (exact)", "Samples per second 64"]
    assert [c.meaning for c in found] == ["of all rows", "lower is better"]
    assert columns(compared({"a": [score(1.0, name="nats/codes")]}))[0].label == "Nats (codes)"


@pytest.mark.parametrize("kind", LIKELIHOOD_KINDS)
def test_every_kind_of_likelihood_has_a_card_and_a_sentence(kind: str):
    rows = {n: [score(v, name=f"nats/{kind}")] for n, v in {"a": 1.0, "b": 2.0}.items()}
    found = columns(compared(rows))
    assert found[0].kind == kind
    shown = sections.likelihoods(compared(rows), found)
    assert shown is not None
    assert f"{sections.KINDS[kind][1:]}." in shown
    assert any(words.LIKELY[kind] in said for said in words.findings(compared(rows), found))


def test_best_needs_an_interval_apart_from_all_others():
    assert column((1.0, 0.2), (2.0, 0.2), (3.0, 0.2)).best() == "a"
    assert column((1.0, 0.2), (1.39, 0.2), (3.0, 0.2)).best() is None
    assert column((1.0, 0.2), (2.0, 0.2), (3.0, 1.9)).best() is None, (
        "a wide interval further down overlaps too"
    )
    assert column((1.0, 0.2), (2.0, 0.2), better="higher").best() == "b"
    assert column((1.0, 0.2), (2.0, 0.2), better="none").best() is None
    assert column((1.0, 0.2)).best() is None, "alone is not best"


def test_counts_are_exact_and_timings_without_an_interval_are_not():
    assert column((10, None), (20, None), name="parameters", criterion="cost").best() == "a"
    assert column((10, None), (10, None), name="parameters", criterion="cost").best() is None
    assert column((60.1, None), (60.2, None), name="train_seconds", unit="s", criterion="cost").best() is None


def test_the_floor_is_never_best():
    found = columns(compared({"a": [score(5.0)], "b": [score(9.0)]}, [score(0.1)]))[0]
    assert found.best() == "a"
    assert found.ranked() == ["a", "b"]


def test_columns_come_in_order_of_criterion_and_bands_hold_them_all():
    rows = [score(1, name=f"cost{n}", criterion="cost") for n in range(7)]
    rows += [score(1, name=f"real{n}", criterion="realism") for n in range(5)]
    found = columns(compared({"a": rows}))
    assert [c.criterion for c in found] == ["realism"] * 5 + ["cost"] * 7
    cut = bands(found, 9)
    assert [len(band) for band in cut] == [5, 7]
    assert [c for band in cut for c in band] == found
    assert [len(band) for band in bands(found[:9], 9)] == [9]


@pytest.mark.parametrize(
    ("value", "half", "written", "interval"),
    [
        (8.1, 0.243, "8.10", "± 0.24"),
        (31.0, 0.93, "31.0", "± 0.9"),
        (96.0, 2.9, "96.0", "± 2.9"),
        (9700.0, 534.0, "9 700", "± 500"),
        (18_200.0, 1000.0, "18.2 k", "± 1.0 k"),
        (0.0002, 0.000006, "2.00 × 10⁻⁴", "± 0.06 × 10⁻⁴"),
        (-1.25, 0.02, "−1.250", "± 0.020"),
        (1_204_993, None, "1.2 M", ""),
        (64, None, "64", ""),
        (0, None, "0", ""),
        (2.3333, None, "2.33", ""),
    ],
)
def test_numbers_have_the_digits_that_their_interval_supports(value, half, written, interval):
    found = score(value, half)
    plain = str.maketrans("\u202f\u00a0", "  ")
    assert number(found.value, found.low, found.high).translate(plain) == written
    assert spread(found).translate(plain) == interval


def test_a_lopsided_interval_is_written_by_its_ends():
    assert spread(Score("a", 0.99, 0.95, 1.0)) == "0.950 to 1.000"


def test_findings_claim_a_lead_only_where_intervals_are_apart():
    apart = compared({"GPT": [score(2.0)], "VAE": [score(5.0)]}, [score(0.5)])
    said = " ".join(words.findings(apart, columns(apart)))
    assert "GPT is nearest to the real data" in said
    assert "No family reaches the floor" in said
    level = compared({"GPT": [score(2.0)], "VAE": [score(2.1)], "GAN": [score(9.0)]}, [score(1.95)])
    said = " ".join(words.findings(level, columns(level)))
    assert "GPT is ahead" in said
    assert "cannot be told from VAE" in said
    assert "is nearest" not in said
    assert "GPT and VAE cannot be told from a second set of real data" in said


def trained(found: Comparison, name: str, steps: int, asked: int) -> Comparison:
    """The comparison, with so many steps on record for one entry, of those that its config asked for."""
    metrics = ({"step": steps, "split": "train", "seconds": 61.25},)
    change = {"metrics": metrics, "budget": {"asked": asked}}
    entries = (dataclasses.replace(e, **change) if e.name == name else e for e in found.entries)
    return dataclasses.replace(found, entries=tuple(entries))


def findings(found: Comparison) -> str:
    return " ".join(words.findings(found, columns(found)))


def test_nothing_is_claimed_of_a_model_with_too_few_steps():
    rows = {"GPT": [score(2.0)], "VAE": [score(5.0)], "GAN": [score(9.0)]}
    for name in rows:
        rows[name].append(score(100.0, None, "parameters", criterion="cost"))
    whole = compared(rows)
    assert "GPT is nearest to the real data" in findings(trained(whole, "GPT", 460, 900))
    few = findings(trained(whole, "GPT", 440, 900))
    assert "GPT: it took 440 of the 900 steps that its config asks for." in few
    assert "GPT is nearest" not in few
    assert "VAE is nearest to the real data" in few
    # So few steps say nothing of a network, and enough of a table of counts.
    assert "GPT: it took 20 steps" in findings(trained(whole, "GPT", 20, 20))
    rows["GPT"][-1] = score(0.0, None, "parameters", criterion="cost")
    assert "GPT is nearest" in findings(trained(compared(rows), "GPT", 20, 20))
    page = scoretable.tables(trained(whole, "GPT", 440, 900), columns(whole))
    assert "few steps" in page[0]


@pytest.mark.parametrize(("detail", "sure"), [
    ({"sets": 3}, True), ({"sets": 2}, False), ({"sets": 1}, False), ({}, True),
    ({"sets": 3, "trainings": 3}, True),
    ({"sets": 1, "trainings": 3}, False), ({"sets": 5, "trainings": 2}, False),
])  # fmt: skip
def test_nothing_is_claimed_from_too_few_sets_or_trainings(detail: dict[str, int], sure: bool):
    found = compared({"GPT": [score(2.0, detail=detail)], "VAE": [score(5.0, detail=detail)]})
    said = findings(found)
    assert ("GPT is nearest" in said) is sure
    assert ("No statement is made on these scores" in said) is not sure
    assert (columns(found)[0].best() == "GPT") is sure
    if not sure:
        few = detail["sets"] < 3
        needs = f"sample sets and has {detail['sets']}" if few else "trainings and has 2"
        assert f"an interval needs at least 3 {needs}: Frechet." in said


def test_the_kind_of_interval_and_the_seconds_are_stated():
    found = trained(compared({"GPT": [score(2.0)], "VAE": [score(5.0)]}), "GPT", 900, 900)
    assert "do not cover the variation of training" in words.intervals(found)
    assert words.spent(found).endswith("without compilation and evaluation: GPT 61.2.")
    one = dataclasses.replace(found.entries[0], repeats=(found.entries[0],) * 2)
    several = dataclasses.replace(found, entries=(one, found.entries[1]))
    assert "over 3 trainings" in words.intervals(several)
    assert "GPT 61.2 + 61.2 + 61.2" in words.spent(several)
    assert not any("one seed" in said for said in words.caveats(several, columns(several)))


def test_memorisation_is_claimed_only_where_the_whole_interval_is_above_a_half():
    rows = {n: [score(v, 0.05, "memorisation", better="none")] for n, v in {"a": 0.6, "b": 0.54}.items()}
    said = words.findings(compared(rows), columns(compared(rows)))
    assert any(s.startswith("Samples of a (0.60") for s in said)
    fresh = compared({"b": rows["b"]})
    assert any("No family’s samples" in s for s in words.findings(fresh, columns(fresh)))


def test_caveats_name_what_is_missing():
    found = compared({"a": [score(1.0)]})
    said = " ".join(words.caveats(found, columns(found)))
    assert "no real-against-real floor" in said
    assert "prompt alignment" in said
    assert "one seed" in said


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("ends", [(1.0, 9.0), (3e-4, 2e9), (5.0, 5.0), (97.0, 99.5)])
def test_an_axis_has_round_ticks_inside_and_keeps_order(ends, log):
    axis = svg.Axis.over(ends, 0, 100, log)
    ticks = axis.ticks(5)
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(ticks)
    assert all(axis.low <= t <= axis.high for t in ticks)
    places = [axis(t) for t in ticks]
    assert places == sorted(places)
    assert 0 <= axis(ends[0]) <= axis(ends[1]) <= 100


def test_thinning_keeps_means_extremes_and_gaps():
    nan = float("nan")
    curve = [(s, float(s)) for s in range(400)]
    found = charts.thin(curve, 100)
    assert len(found) == 100
    assert found[0] == (1.5, 1.5, 0.0, 3.0)
    assert sum(m for _, m, _, _ in found) / 100 == pytest.approx(sum(range(400)) / 400)
    broken = charts.thin([(0, 1.0), (1, nan), (2, 3.0)])
    assert broken[1][1] != broken[1][1]
