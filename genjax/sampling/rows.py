"""Build a `Model.sample` from a decoder: rows in the form of the data, given labels or beginnings."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from genjax.config import Count, Natural, NotNegative, Positive, Probability, Share, Signed
from genjax.core import Batch, Decoder, Keys, Variables
from genjax.errors import ConfigError
from genjax.sampling.autoregressive import generate, guide
from genjax.sampling.beam import beam_search, check_options
from genjax.sampling.constraints import Constraint
from genjax.sampling.logits import Bernoulli, Policy, Truncation
from genjax.sampling.stops import StopText
from genjax.views import columns
from genjax.views.frames import Frames, View
from genjax.views.sequences import check_prompt


def sampler(decoder: Decoder, sequence: View) -> Callable[..., Batch]:
    """Return a `Model.sample` over `generate`: rows in the form of the data, given labels or beginnings.

    See `Sequence.prefix` for its prompt and `_Sampler.sample` for its options.
    """
    return _Sampler(decoder, sequence).sample


class _Given(NamedTuple):
    """Hold the beginnings of rows: (tokens, tokens per row, start tokens among them)."""

    tokens: Int[Array, "B P ..."]
    lengths: Int[Array, " B"]
    starts: int


class _Rule(NamedTuple):
    """Hold the options of a sampler beside its policy; `length` is that of whole rows."""

    length: int
    stop: tuple[int, ...] | StopText
    pad: int
    min_length: int
    constraint: Constraint | None
    beams: int
    length_penalty: float


@dataclasses.dataclass(frozen=True)
class _Sampler:
    """Sample whole rows from a decoder of sequences."""

    decoder: Decoder
    sequence: View

    def sample(
        self,
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        temperature: NotNegative = 1.0,
        top_k: Count | None = None,
        top_p: Probability | None = None,
        min_p: Share | None = None,
        typical_p: Probability | None = None,
        repetition_penalty: Positive = 1.0,
        frequency_penalty: Signed = 0.0,
        presence_penalty: Signed = 0.0,
        guidance: Signed = 1.0,
        length: Count | None = None,
        stop: Natural | tuple[Natural, ...] | StopText = (),
        pad: Natural = 0,
        min_length: Natural = 0,
        constraint: Constraint | None = None,
        beams: Count = 1,
        length_penalty: Signed = 1.0,
    ) -> Batch:
        """Draw rows. If rows may end early, the column LENGTH counts the tokens of each, prompt included.

        Args:
          temperature, top_k, top_p, min_p, typical_p, repetition_penalty, frequency_penalty,
            presence_penalty: see `logits.Truncation`. Frames have a temperature alone.
          guidance: scale of classifier-free guidance; 1 is none.
          length: tokens of a running row, prompt included; that of the data if None.
          stop: a token or several that end a row, or a text that ends it (see `stops`).
          pad, min_length, constraint: see `generate`; the constraint applies after the prompt.
          beams: more than 1 searches for the most probable row, with `length_penalty`, and draws nothing. Of
            the policy it accepts the repetition penalty alone.

        Raises:
          ConfigError: an option is out of range or does not fit the data, or the prompt is too long.
        """
        narrow = (top_k, top_p, min_p, typical_p, repetition_penalty, frequency_penalty, presence_penalty)
        policy = self._policy(temperature, narrow, beams, length_penalty)
        stops = (stop,) if isinstance(stop, int) else stop
        self._check_tokens(stops, pad)
        total = _total(self.sequence, length)
        _check_ends(bool(stops), constraint is not None, pad, min_length, total)
        rule = _Rule(total, stops, pad, min_length, constraint, beams, length_penalty)
        given = _Given(*self.sequence.prefix(prompt, keys.shape[0]))
        count = given.tokens.shape[1] - given.starts
        check_prompt(count, total)
        # Ragged rows draw as many tokens as the shortest prompt could need, and are cut. A row that must
        # match a constraint cannot be cut: every row then draws what the longest prompt leaves.
        ragged = columns.LENGTH in prompt and constraint is None
        need = total - (0 if ragged else count)
        condition = self.sequence.condition(prompt)
        if guidance != 1 and not condition:
            raise ConfigError(
                f"guidance={guidance} without a condition", "give a label, or set guidance to 1"
            )
        if need == 0:
            return {**self.sequence.decode(given.tokens[:, given.starts :]), **condition}
        decoder = self.decoder if guidance == 1.0 else self._guided(float(guidance))
        return {**self._rows(decoder, variables, keys, given, policy, rule, need, ragged), **condition}

    def _rows(
        self,
        decoder: Decoder,
        variables: Variables,
        keys: Keys,
        given: _Given,
        policy: Policy,
        rule: _Rule,
        need: int,
        ragged: bool,
    ) -> Batch:
        """Draw `need` tokens after the prompts and return whole rows."""
        ends = bool(rule.stop) or rule.constraint is not None
        known = given.lengths - given.starts
        shared = {
            "length": need,
            "lengths": given.lengths,
            "stop": rule.stop,
            "pad": rule.pad,
            "min_length": rule.min_length,
            "constraint": rule.constraint,
        }
        if rule.beams == 1 and ends and ragged:
            shared["limit"] = rule.length - known
        search = {"beams": rule.beams, "length_penalty": rule.length_penalty}
        drawn, count = go_on(decoder, variables, keys, given.tokens, policy, **search, **shared)
        rows = _join(given.tokens[:, given.starts :], drawn, known, rule.length, rule.pad)
        found_rows = self.sequence.decode(rows)
        if not ends:
            return found_rows
        return {**found_rows, columns.LENGTH: jnp.minimum(known + count, rule.length)}

    def _check_tokens(self, stop: tuple[int, ...] | StopText, pad: int) -> None:
        """Refuse a stop that is never drawn, and padding that the data does not know."""
        listed = () if isinstance(stop, StopText) else stop
        for name, token in [*(("stop", s) for s in listed), ("pad", pad)]:
            if token >= self.sequence.levels:
                raise ConfigError(
                    f"{name}={token} is not a token of this model, which has {self.sequence.levels}",
                    f"give at most {self.sequence.levels - 1}",
                )

    def _policy(
        self, temperature: float, narrow: tuple[Any, ...], beams: int, length_penalty: float
    ) -> Policy:
        """Return the policy; frames accept a temperature alone, a search a repetition penalty alone."""
        tokens = Truncation(temperature, *narrow)
        if not isinstance(self.sequence, Frames):
            check_options(tokens, beams, length_penalty)
            return tokens
        _check_frames(tokens, beams, length_penalty)
        return Bernoulli(temperature)

    @functools.cached_property
    def _guided(self) -> Callable[[float], Decoder]:
        # A decoder is a static argument of compiled functions: one object per scale compiles once.
        return functools.lru_cache(maxsize=None)(
            lambda scale: guide(self.decoder, scale, self.sequence.unconditional)
        )


def go_on(
    decoder: Decoder,
    variables: Variables,
    keys: Keys,
    tokens: Int[Array, "B P ..."],
    policy: Policy,
    *,
    beams: int,
    length_penalty: float,
    **shared: Any,
) -> tuple[Int[Array, "B N ..."], Int[Array, " B"]]:
    """Return (tokens, their number) that follow each row: drawn by the policy, or the best of several beams.

    Args:
      shared: of `generate` or `beam_search`.
    """
    if beams == 1:
        out = generate(decoder, variables, keys, tokens, policy=policy, **shared)
        return out.tokens, out.lengths
    assert isinstance(policy, Truncation)
    search = {"beams": beams, "length_penalty": length_penalty}
    search["repetition_penalty"] = policy.repetition_penalty
    found = beam_search(decoder, variables, tokens, **search, **shared)
    return found.tokens[:, 0], found.lengths[:, 0]


def _check_frames(policy: Truncation, beams: int, length_penalty: float) -> None:
    """Refuse options that are for tokens, by name."""
    given = {**dataclasses.asdict(policy), "beams": beams, "length_penalty": length_penalty}
    usual = {**dataclasses.asdict(Truncation()), "beams": 1, "length_penalty": 1.0}
    for name, value in given.items():
        if name != "temperature" and value != usual[name]:
            raise ConfigError(
                f"{name}={value}: frames are drawn with a temperature alone", f"leave {name} out"
            )


def _check_ends(stops: bool, constrained: bool, pad: int, min_length: int, total: int) -> None:
    """Refuse options of the end of a row, by name, if rows have no end, or none before their length."""
    if min_length and not (stops or constrained):
        raise ConfigError(f"min_length={min_length} has no effect without a stop", "leave it out")
    if min_length > total:
        raise ConfigError(f"min_length={min_length} is beyond the length of {total} tokens", "lower it")
    if pad and not (stops or constrained):
        raise ConfigError(f"pad={pad} has no effect: rows have no stop and no constraint", "leave it out")


def _total(sequence: View, length: int | None) -> int:
    """Return the tokens of a row: those of the data, or for running rows the `length` asked for."""
    total = sequence.length + sequence.text
    if length is None or length == total:
        return total
    if not sequence.text:
        raise ConfigError(f"a row has {total} values, and length is {length}", "leave length out")
    return length


def _join(
    prompts: Int[Array, "B P ..."],
    drawn: Int[Array, "B N ..."],
    lengths: Int[Array, " B"],
    total: int,
    pad: int,
) -> Int[Array, "B total ..."]:
    """Join the first `lengths` prompt tokens of each row, its drawn tokens, and padding."""
    at = jnp.arange(total)[None, :] - lengths[:, None]
    rows = jnp.arange(at.shape[0])[:, None]
    wide = lambda mask: mask.reshape(*mask.shape, *(1,) * (drawn.ndim - 2))
    new = drawn[rows, jnp.clip(at, 0, drawn.shape[1] - 1)]
    new = jnp.where(wide(at < drawn.shape[1]), new, pad)
    if prompts.shape[1] == 0:
        return new
    old = prompts[rows, jnp.clip(jnp.arange(total), 0, prompts.shape[1] - 1)[None]]
    return jnp.where(wide(at < 0), old, new)
