"""Turn a user's words into constraints and stop tokens, and stream text while it is drawn."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import data, kinds
from genjax.core import Batch, row_keys
from genjax.errors import ConfigError, DataError
from genjax.sampling import autoregressive, constraints
from genjax.sampling.logits import Truncation
from genjax.sampling.sampler import STREAM, options
from genjax.views.sequences import Sequence
from genjax.workflows.assemble import Trained

CHUNK = 8
"""Tokens that are drawn between two writes to the terminal."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _tokenizer(dataset: data.Dataset, what: str) -> data.Tokenizer:
    if dataset.tokenizer is None:
        raise ConfigError(f"{what}: {dataset.name} is not text", "use a run on text")
    return dataset.tokenizer


def stop(dataset: data.Dataset, text: str) -> tuple[int, ...]:
    """Return the tokens that end a row where `text` appears.

    Raises:
      ConfigError: it is not one token of this tokenizer.
    """
    tokens = _tokenizer(dataset, "--stop").encode(text.encode().decode("unicode_escape"))
    if len(tokens) != 1:
        raise ConfigError(f"--stop={text!r} is {len(tokens)} tokens", "give one that is a single token")
    return (int(tokens[0]),)


def constraint(
    dataset: data.Dataset, regex: str | None = None, schema: str | None = None, words: str | None = None
) -> constraints.Constraint | None:
    """Return what every sample must match after its prompt; None if nothing is given.

    Args:
      regex: a regular expression.
      schema: a JSON schema, or the path of one.
      words: separated by commas.

    Raises:
      ConfigError: several at once, or one that nothing can match.
      DataError: the schema's file cannot be read.
    """
    given = [x for x in (regex, schema, words) if x is not None]
    if not given:
        return None
    if len(given) > 1:
        raise ConfigError("several of --regex, --json-schema and --words", "give one")
    pieces = _tokenizer(dataset, "a constraint").token_bytes()
    if regex is not None:
        return constraints.regex(regex, pieces)
    if words is not None:
        return constraints.words(words.split(","), pieces)
    assert schema is not None
    if not schema.lstrip().startswith("{"):
        try:
            schema = Path(schema).read_text("utf-8-sig")
        except (OSError, ValueError) as error:
            raise DataError(f"--json-schema={schema}: {error}", "give JSON, or a file of it") from error
    return constraints.json_schema(schema, pieces)


def streams(trained: Trained, given: Mapping[str, Any]) -> bool:
    """Return whether samples can be written while they are drawn: running text, drawn token by token."""
    experiment = trained.experiment
    dataset = experiment.dataset
    target = kinds.main_target(dataset.spec)
    kind = kinds.of(dataset.spec[target]) if target else None
    text = dataset.tokenizer is not None and kind is not None and kind.RUNNING and not dataset.spec.paired
    plain = given.get("guidance", 1.0) == 1.0 and given.get("beams", 1) == 1
    return text and plain and experiment.model.decoder is not None


def stream(
    trained: Trained,
    given: Mapping[str, Any],
    start: Batch,
    *,
    index: int = 0,
    seed: int = 0,
    average: str | None = None,
) -> Iterator[str]:
    """Yield the text that follows the prompt in one row, piece by piece, as the sampler would draw it.

    Args:
      given: options of the sampler.
      start: the prompt of one row.
      index: of the sample: its key is that of `genjax.sampling.sampler`.

    Raises:
      ConfigError: an unknown option; a prompt that is too long.
    """
    experiment = trained.experiment
    model = experiment.model
    chosen = options(model, given)
    sequence = Sequence.of(experiment.dataset.spec)
    tokenizer = experiment.dataset.tokenizer
    assert tokenizer is not None
    assert model.decoder is not None
    tokens, lengths, starts = sequence.prefix({k: jnp.asarray(v) for k, v in start.items()}, 1)
    asked = chosen.pop("length", None)
    room = (asked or sequence.length + 1) - (tokens.shape[1] - starts)
    if room < 1:
        raise ConfigError(
            f"a prompt of {tokens.shape[1]} tokens leaves no room", "raise --sample.length, or shorten it"
        )
    chunks = autoregressive.stream(
        model.decoder,
        trained.ready(average),
        row_keys(jax.random.key(seed), STREAM, jnp.arange(index, index + 1)),
        tokens,
        length=room,
        chunk=CHUNK,
        lengths=lengths,
        **_policy(chosen),
    )
    seen = [int(t) for t in np.asarray(tokens)[0, starts:]]
    yield from _pieces(tokenizer, seen, chunks)


def _policy(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampler's options as arguments of `autoregressive.stream`."""
    narrow = inspect.signature(Truncation).parameters
    out: dict[str, Any] = {k: chosen[k] for k in ("pad", "min_length", "constraint") if k in chosen}
    out["policy"] = Truncation(**{k: chosen[k] for k in chosen if k in narrow})
    stop_at = chosen.get("stop", ())
    out["stop"] = (stop_at,) if isinstance(stop_at, int) else tuple(stop_at)
    return out


def _pieces(tokenizer: data.Tokenizer, seen: list[int], chunks: Any) -> Iterator[str]:
    """Yield the text that each chunk adds to the tokens seen so far."""
    written = tokenizer.decode(seen)
    for piece in chunks:
        seen += [int(t) for t in np.asarray(piece.tokens)[0, : int(piece.lengths[0])]]
        # The last bytes of a character may still be missing: hold back what is not complete.
        text = tokenizer.decode(seen).rstrip(REPLACEMENT)
        if text.startswith(written) and len(text) > len(written):
            yield text[len(written) :]
            written = text
    text = tokenizer.decode(seen)
    if text.startswith(written) and len(text) > len(written):
        yield text[len(written) :]
