"""Rows with several documents: what is masked, where positions restart."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from genjax.core import Element, Spec
from genjax.views.sequences import Sequence

V = 50
SPEC = Spec({"tokens": Element((9,), "int32", V, "tokens", "target"), "segment": Element((9,), "int32")})
# Two documents and padding; one that goes on to the row's end; one of a single token; only padding.
SEGMENT = np.array(
    [
        [1, 1, 1, 2, 2, 2, 2, 0, 0],
        [7, 7, 7, 7, 7, 7, 7, 7, 7],
        [4, 5, 5, 5, 6, 7, 7, 7, 7],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ],
    np.int32,
)


def batch(**more) -> dict:
    tokens = np.arange(36, dtype=np.int32).reshape(4, 9)
    return {"tokens": tokens, "segment": SEGMENT, "mask": np.ones(4, np.float32), **more}


def test_targets_in_another_document_or_in_padding_do_not_count():
    inputs, targets, mask = Sequence.of(SPEC).encode(batch())
    expected = np.zeros((4, 8))
    for b in range(4):
        for t in range(8):
            read, predicted = SEGMENT[b, t], SEGMENT[b, t + 1]
            expected[b, t] = read == predicted != 0
    np.testing.assert_array_equal(mask, expected)
    assert expected.sum(1).tolist() == [5, 8, 5, 0]
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])


def test_the_row_s_mask_and_the_tokens_mask_hold_too():
    tokens = np.ones((4, 8), np.float32)
    tokens[1, 5:] = 0
    rows = np.array([0, 1, 1, 1], np.float32)
    mask = Sequence.of(SPEC).encode(batch(token_mask=tokens, mask=rows))[2]
    assert mask.sum(1).tolist() == [0, 5, 5, 0]


def test_positions_count_from_zero_in_every_document():
    found = Sequence.of(SPEC).segments(batch())
    assert found is not None
    segment, position = found
    np.testing.assert_array_equal(segment, SEGMENT[:, :-1])
    assert position.dtype == jnp.int32
    assert np.asarray(position)[:3].tolist() == [
        [0, 1, 2, 0, 1, 2, 3, 0],
        [0, 1, 2, 3, 4, 5, 6, 7],
        [0, 0, 1, 2, 0, 0, 1, 2],
    ]


def test_rows_without_segments_are_one_document():
    rows = batch()
    del rows["segment"]
    assert Sequence.of(SPEC).segments(rows) is None
    assert float(Sequence.of(SPEC).encode(rows)[2].min()) == 1


def test_behind_the_start_token_masks_and_segments_move_with_the_tokens():
    drop = jnp.array([1.0, 0.0, 1.0, 0.0])
    view = Sequence.of(SPEC)
    token_mask = np.ones((4, 8), np.float32)
    token_mask[0, 5] = 0  # of token 6
    rows = batch(token_mask=token_mask)
    inputs, targets, mask = view.encode(rows, drop)
    found = view.segments(rows, drop)
    assert found is not None
    segment, position = found
    assert inputs[:, 0].tolist() == [view.null, 9, view.null, 27]
    assert targets[0].tolist() == list(range(8))
    assert mask[0].tolist() == [1, 1, 1, 0, 1, 1, 0, 0]
    assert segment[0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert position[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    for b in range(4):
        # Every target that counts belongs to its input's document, also behind the start token.
        at = np.asarray(targets[b]) - 9 * b
        for t in np.flatnonzero(mask[b]):
            assert SEGMENT[b, at[t]] == segment[b, t] > 0
