"""Define the quantisers of codecs: features (B, h, w, F) to codes of a grid, and back.

Each has `features` (F, channels that the encoder gives), `size` (K, how many codes there are), `grid` (extra
axes of the codes), `params(key)` (learned by gradient), `state(key)`, `fit`, `quantise` and `codes`. The
state counts how often each code is used, as an average per step.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Keys, Tree, across
from genjax.functional import quantise
from genjax.functional.quantise import Codebook, Standard

DECAY = 0.99
"""Of the counts and the statistics of quantisers that learn no codebook."""


class Quantised(NamedTuple):
    """Hold quantised features.

    Attributes:
      q: what the decoder reads, with the gradient of the features.
      index: of the codes.
      penalty: of each row, to be added to its loss.
      state: the next state of the quantiser.
    """

    q: Float[Array, "B h w D"]
    index: Int[Array, "B h w *Q"]
    penalty: Float[Array, " B"]
    state: Tree


class Quantiser(Protocol):
    """Map features to codes; see the module."""

    @property
    def features(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def grid(self) -> tuple[int, ...]: ...
    def params(self, key: jax.Array) -> Tree: ...
    def state(self, key: jax.Array, positions: int = 0) -> Tree:
        """Return the first state; `positions` is how many features a training step has."""
        ...

    def fit(self, state: Tree, z: jax.Array, mask: jax.Array) -> Tree:
        """Return the state fitted on the features of real rows."""
        ...

    def quantise(
        self,
        params: Tree,
        state: Tree,
        z: jax.Array,
        mask: jax.Array,
        keys: Keys | None,
        step: jax.Array | None,
    ) -> Quantised:
        """Quantise features. In training `step` and `keys` are given, else no state changes."""
        ...

    def codes(self, params: Tree, state: Tree, index: jax.Array) -> Float[Array, "B h w D"]:
        """Return what the decoder reads for these codes."""
        ...


@dataclasses.dataclass(frozen=True)
class Vector:
    """Take the nearest of K codes, which are moving averages of their features (VQ-VAE, appendix A.1).

    With `depth` Q > 1 the n-th codebook quantises what the codebooks before it leave (Zeghidour et al. 2021,
    arXiv:2107.03312, algorithm 1).

    Attributes:
      size: K.
      features: D.
      depth: Q, codes per position.
      commitment: beta of the paper: weight of |z - sg(q)|^2.
      decay: of the averages.
      revive: codes with fewer features per step than this are replaced by features; 0 for never.
      rounds: of k-means in `fit`.
    """

    size: int
    features: int
    depth: int
    commitment: float
    decay: float
    revive: float
    rounds: int

    @property
    def grid(self) -> tuple[int, ...]:
        return (self.depth,) if self.depth > 1 else ()

    def params(self, key: jax.Array) -> Tree:
        return {}

    def state(self, key: jax.Array, positions: int = 0) -> Tree:
        weight = positions / self.size if positions else 1.0
        draw = lambda k: Codebook.of(jax.random.normal(k, (self.size, self.features)), weight)
        return {f"book_{n:03}": draw(k) for n, k in enumerate(jax.random.split(key, self.depth))}

    def fit(self, state: Tree, z: jax.Array, mask: jax.Array) -> Tree:
        """Return codebooks of the k-means of the features, and of what the codebooks before leave."""
        rest = z.reshape(-1, self.features)
        weight = _per_position(mask, z)
        fitted = {}
        for name, book in state.items():
            # Counts are per step, and these rows are not as many as those of a step.
            share = Codebook(*book).count.sum() / jnp.maximum(weight.sum(), 1.0)
            means = quantise.kmeans(rest, weight, self.size, self.rounds)
            index = quantise.nearest(rest, means)
            count, total = quantise.assigned(rest, index, weight, self.size)
            # A mean without features keeps a count of one row's, so that its average is itself.
            total = jnp.where(count[:, None] > 0, total, means)
            fitted[name] = Codebook(means, share * jnp.maximum(count, 1.0), share * total)
            rest = rest - means[index]
        return fitted

    def quantise(
        self,
        params: Tree,
        state: Tree,
        z: jax.Array,
        mask: jax.Array,
        keys: Keys | None,
        step: jax.Array | None,
    ) -> Quantised:
        rest = jax.lax.stop_gradient(z).reshape(-1, self.features)
        total = jnp.zeros_like(rest)
        weight = _per_position(mask, z)
        indices = []
        changed = {}
        for n, (name, book) in enumerate(state.items()):
            index = quantise.nearest(rest, book.codes)
            if step is not None and keys is not None:
                changed[name] = self._learned(Codebook(*book), rest, index, weight, keys, n)
            q = book.codes[index]
            total = total + q
            rest = rest - q
            indices.append(index)
        q = total.reshape(z.shape)
        penalty = self.commitment * jnp.square(z - q).mean((1, 2, 3))
        index = jnp.stack(indices, -1).reshape(*z.shape[:3], self.depth)
        return Quantised(
            quantise.straight_through(z, q),
            index.reshape(*z.shape[:3], *self.grid),
            penalty,
            changed or state,
        )

    def _learned(
        self, book: Codebook, z: jax.Array, index: jax.Array, weight: jax.Array, keys: Keys, n: int
    ) -> Codebook:
        count, total = quantise.assigned(z, index, weight, self.size)
        book = quantise.averaged(book, count, total, self.decay)
        if not self.revive:
            return book
        positions = z.shape[0] // keys.shape[0]
        draw = lambda key: jax.random.uniform(jax.random.fold_in(key, n), (positions,))
        distance = jnp.square(z - book.codes[index]).sum(-1)
        score = quantise.by_distance(jax.vmap(draw)(keys).reshape(-1), distance, weight)
        return quantise.revived(book, z, score, self.revive)

    def codes(self, params: Tree, state: Tree, index: jax.Array) -> Float[Array, "B h w D"]:
        index = index.reshape(*index.shape[:3], self.depth)
        return sum(book.codes[index[..., n]] for n, book in enumerate(state.values()))  # type: ignore[return-value]


class Counting:
    """Hold one code per position and no parameters; the state counts how often each code is used."""

    @property
    def grid(self) -> tuple[int, ...]:
        return ()

    def params(self, key: jax.Array) -> Tree:
        return {}

    def state(self: Quantiser, key: jax.Array, positions: int = 0) -> Tree:
        return {"count": jnp.ones(self.size)}

    def fit(self, state: Tree, z: jax.Array, mask: jax.Array) -> Tree:
        return state


class Standardising(Counting):
    """Standardise each channel before it is quantised: batch normalisation without scale and shift.

    Nothing else keeps the features of a rounding quantiser spread over its levels: without it most features
    soon get the same few codes. Training reads the statistics of the batch, everything else their moving
    averages.
    """

    def state(self: Quantiser, key: jax.Array, positions: int = 0) -> Tree:
        return {"count": jnp.ones(self.size), "standard": Standard.identity(self.features)}

    def fit(self, state: Tree, z: jax.Array, mask: jax.Array) -> Tree:
        return {**state, "standard": _standard(z, mask)}

    def standardised(
        self, state: Tree, z: jax.Array, mask: jax.Array, step: jax.Array | None
    ) -> tuple[Float[Array, "B h w F"], Tree]:
        """Return the standardised features, and the state with the next averages."""
        average = Standard(*state["standard"])
        if step is None:
            return average.apply(z), state
        batch = _standard(z, mask)
        return batch.apply(z), {**state, "standard": average.towards(batch, DECAY)}


def _standard(z: Float[Array, "B h w F"], mask: Float[Array, " B"]) -> Standard:
    return Standard.of(z.reshape(-1, z.shape[-1]), _per_position(mask, z))


@dataclasses.dataclass(frozen=True)
class Scalars(Standardising):
    """Round each channel to a few levels (FSQ; Mentzer et al. 2023, arXiv:2309.15505).

    Attributes:
      levels: of each channel.
    """

    levels: tuple[int, ...]

    @property
    def features(self) -> int:
        return len(self.levels)

    @property
    def size(self) -> int:
        return math.prod(self.levels)

    def quantise(
        self,
        params: Tree,
        state: Tree,
        z: jax.Array,
        mask: jax.Array,
        keys: Keys | None,
        step: jax.Array | None,
    ) -> Quantised:
        z, state = self.standardised(state, z, mask, step)
        q = quantise.fsq(z, self.levels)
        index = quantise.fsq_index(q, self.levels)
        return Quantised(q, index, jnp.zeros(z.shape[0]), _counted(state, index, mask, step))

    def codes(self, params: Tree, state: Tree, index: jax.Array) -> Float[Array, "B h w D"]:
        return quantise.fsq_codes(index, self.levels)


@dataclasses.dataclass(frozen=True)
class Signs(Standardising):
    """Take the signs of the channels (LFQ; Yu et al. 2023, arXiv:2310.05737).

    Attributes:
      features: D, bits of a code.
      commitment: weight of |z - sg(q)|^2.
      entropy: weight of the mean entropy of the codes less the entropy of the mean code (eq. 5).
    """

    features: int
    commitment: float
    entropy: float

    @property
    def size(self) -> int:
        return 2**self.features

    def quantise(
        self,
        params: Tree,
        state: Tree,
        z: jax.Array,
        mask: jax.Array,
        keys: Keys | None,
        step: jax.Array | None,
    ) -> Quantised:
        z, state = self.standardised(state, z, mask, step)
        q = quantise.lfq(z)
        index = quantise.lfq_index(q)
        each, mean = quantise.lfq_entropies(z.reshape(-1, self.features), _per_position(mask, z))
        penalty = self.entropy * (each.reshape(z.shape[0], -1).mean(-1) - mean)
        penalty = penalty + self.commitment * jnp.square(z - jax.lax.stop_gradient(q)).mean((1, 2, 3))
        return Quantised(q, index, penalty, _counted(state, index, mask, step))

    def codes(self, params: Tree, state: Tree, index: jax.Array) -> Float[Array, "B h w D"]:
        return quantise.lfq_codes(index, self.features)


@dataclasses.dataclass(frozen=True)
class Gumbel(Counting):
    """Draw one of K codes from a relaxed categorical distribution (dVAE; Ramesh et al. 2021, sec. 2.1).

    Attributes:
      size: K.
      width: of the learned codes.
      kl: weight of the KL divergence from the uniform distribution over the codes, per position.
      anneal: steps in which the temperature falls from 1 to 1/16 (appendix A.2).
    """

    size: int
    width: int
    kl: float
    anneal: int

    @property
    def features(self) -> int:
        return self.size

    def params(self, key: jax.Array) -> Tree:
        return {"codes": jax.random.normal(key, (self.size, self.width))}

    def temperature(self, step: jax.Array | int) -> jax.Array:
        """Return tau of a step: a cosine from 1 to 1/16."""
        done = jnp.clip(jnp.asarray(step, jnp.float32) / self.anneal, 0.0, 1.0)
        return 1 / 16 + (1 - 1 / 16) * 0.5 * (1 + jnp.cos(math.pi * done))

    def quantise(
        self,
        params: Tree,
        state: Tree,
        z: jax.Array,
        mask: jax.Array,
        keys: Keys | None,
        step: jax.Array | None,
    ) -> Quantised:
        index = z.argmax(-1).astype(jnp.int32)
        log_p = jax.nn.log_softmax(z, -1)
        # KL(p || uniform) = log K - entropy.
        kl = math.log(self.size) + (jnp.exp(log_p) * log_p).sum(-1)
        penalty = self.kl * kl.mean((1, 2))
        if step is None or keys is None:
            return Quantised(params["codes"][index], index, penalty, state)
        noise = jax.vmap(lambda key: jax.random.gumbel(key, z.shape[1:]))(keys)
        soft = jax.nn.softmax((log_p + noise) / self.temperature(step), -1)
        return Quantised(soft @ params["codes"], index, penalty, _counted(state, index, mask, step))

    def codes(self, params: Tree, state: Tree, index: jax.Array) -> Float[Array, "B h w D"]:
        return params["codes"][index]


def counts(state: Tree) -> Float[Array, "Q K"]:
    """Return how often each code is used, per codebook."""
    if "count" in state:
        return state["count"][None]
    return jnp.stack([book.count for book in state.values()])


def _counted(state: dict[str, Any], index: jax.Array, mask: jax.Array, step: jax.Array | None) -> Tree:
    """Return the state with the counts of a batch."""
    if step is None:
        return state
    weight = _per_position(mask, index[..., None])
    size = state["count"].shape[0]
    count = across(jax.ops.segment_sum(weight, index.reshape(-1), size))
    return {**state, "count": DECAY * state["count"] + (1 - DECAY) * count}


def _per_position(mask: Float[Array, " B"], z: Float[Array, "B h w F"]) -> Float[Array, " N"]:
    """Repeat the mask of each row for its positions."""
    return jnp.repeat(mask, math.prod(z.shape[1:3]))
