"""Turn a user's words into constraints and stops, and stream text while it is drawn."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from genjax import data, kinds
from genjax.config import Seed, coerce
from genjax.core import Batch, Model, row_keys
from genjax.data import tokenizers
from genjax.errors import ConfigError, DataError
from genjax.sampling import autoregressive, constraints, stops
from genjax.sampling.logits import Truncation
from genjax.sampling.sampler import STREAM, not_finite, options
from genjax.sampling.stops import StopText
from genjax.views import sequences
from genjax.workflows.assemble import Trained

CHUNK = 8
"""Tokens that are drawn between two writes to the terminal."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _tokenizer(dataset: data.Dataset, what: str) -> data.Tokenizer:
    if dataset.tokenizer is None:
        raise ConfigError(f"{what}: {dataset.name} is not text", "use a run on text")
    return dataset.tokenizer


def stop(dataset: data.Dataset, texts: Sequence[str], beginning: str = "") -> StopText | tuple[int, ...]:
    """Return what ends a row where its decoded text contains one of `texts`, whatever the tokens.

    Args:
      texts: each with escapes (`unescape`).
      beginning: the text of the prompt (`begun`), in which no stop is searched.

    Raises:
      ConfigError: a stop is empty, an escape is wrong, or the data is not text.
    """
    tokenizer = _tokenizer(dataset, "--stop")
    if any(kind.PICTURE for _, kind in kinds.shown(dataset.spec, dataset.spec.targets)):
        raise ConfigError(f"--stop: the samples of {dataset.name} are not text", "leave it out")
    pieces = tokenizers.pieces(tokenizer)
    fresh = not beginning
    if beginning and pieces.breaks:
        fresh = int(tokenizer.encode(beginning)[-1]) in pieces.breaks
    return stops.stop([stop_text(text) for text in texts], *pieces, fresh=fresh)


def stop_text(text: str) -> str:
    """Return the text of a --stop, after its escapes were read.

    Raises:
      ConfigError: it is empty, no Unicode text, holds a replacement character, or an escape is wrong.
    """
    found = unescape(text)
    if not found or any(0xD800 <= ord(c) < 0xE000 for c in found) or REPLACEMENT in found:
        raise ConfigError(f"--stop={text!r} is no text", "give the characters that end a sample")
    return found


def unescape(text: str) -> str:
    """Return a text with its escapes read: n, t, r, xHH, uHHHH, UHHHHHHHH or a backslash after a backslash.

    Raises:
      ConfigError: any other backslash.
    """
    return _ESCAPE.sub(_escaped, text)


_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))", re.DOTALL)
_PLAIN = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def _escaped(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code is None and match[4] in _PLAIN:
        return _PLAIN[match[4]]
    if code is None or int(code, 16) > 0x10FFFF:
        raise ConfigError(f"--stop: {match[0]!r} is not an escape", "write a backslash as two")
    return chr(int(code, 16))


class Cut:
    """Decode rows up to the first stop after their beginning: the last token may add more after it."""

    def __init__(self, tokenizer: Any, texts: Sequence[str], beginning: str = ""):
        self._tokenizer = tokenizer
        self._texts = texts
        self._from = len(beginning)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text up to the end of its first stop; all of it if there is none."""
        text = self._tokenizer.decode(tokens)
        found = ((text.find(stop, self._from), len(stop)) for stop in self._texts)
        return text[: min((at + size for at, size in found if at >= 0), default=None)]


def cut(dataset: data.Dataset, texts: Sequence[str] | None, beginning: str = "") -> data.Dataset:
    """Return the dataset with a tokenizer whose texts end at the first --stop after their beginning."""
    if not texts:
        return dataset
    tokenizer = Cut(_tokenizer(dataset, "--stop"), [stop_text(text) for text in texts], beginning)
    return dataclasses.replace(dataset, tokenizer=cast(data.Tokenizer, tokenizer))


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
    tokenizer = _tokenizer(dataset, "a constraint")
    pieces = tokenizer.token_bytes()
    spaces = getattr(tokenizer, "spaces", "kept")  # a module outside the package may not know it
    if regex is not None:
        return constraints.regex(regex, pieces, spaces=spaces)
    if words is not None:
        return constraints.words(words.split(","), pieces, spaces=spaces)
    assert schema is not None
    if not schema.lstrip().startswith("{"):
        try:
            schema = Path(schema).read_text("utf-8-sig")
        except (OSError, ValueError) as error:
            raise DataError(f"--json-schema={schema}: {error}", "give JSON, or a file of it") from error
    return constraints.json_schema(schema, pieces, spaces=spaces)


def check_streams(trained: Trained, given: Mapping[str, Any]) -> None:
    """Refuse samples that cannot be written while they are drawn: all but running text, token by token.

    Raises:
      ConfigError: the run does not draw so, or an option does not; or one that the sampler refuses.
    """
    experiment = trained.experiment
    dataset = experiment.dataset
    target = kinds.main_target(dataset.spec)
    kind = kinds.of(dataset.spec[target]) if target else None
    text = dataset.tokenizer is not None and kind is not None and kind.RUNNING and not dataset.spec.paired
    # A model of a part of a row given the rest does not draw rows with its decoder alone.
    whole = experiment.model.likelihood_kind != "conditional"
    if not (text and whole and experiment.model.decoder is not None):
        raise ConfigError("--stream: this run does not draw text token by token", "leave --stream out")
    chosen = options(experiment.model, given)
    for name in ("guidance", "beams"):
        if chosen.get(name, 1) != 1:
            raise ConfigError(
                f"--stream: {name}={chosen[name]} does not draw token by token",
                f"leave {name} or --stream out",
            )


def begun(dataset: data.Dataset, start: Batch | None) -> str:
    """Return the text of the prompt of the first row; "" without a prompt that samples go on from."""
    target = kinds.main_target(dataset.spec)
    if dataset.tokenizer is None or start is None or target not in start:
        return ""
    return dataset.tokenizer.decode(np.asarray(start[target][0]).tolist())


def stream(
    trained: Trained,
    given: Mapping[str, Any],
    start: Batch,
    *,
    index: int = 0,
    seed: int = 0,
    average: str | None = None,
    stop: Sequence[str] | None = None,
) -> Iterator[str]:
    """Yield the text that follows the prompt in one row, piece by piece, as the sampler would draw it.

    The model's sampler is traced first, so that it refuses what it would refuse if the text was not streamed.

    Args:
      given: options of the sampler.
      start: the prompt of one row.
      index: of the sample: its key is that of `genjax.sampling.sampler`.
      stop: those that `given["stop"]` was made of: the text ends with the first.

    Raises:
      ConfigError: what the sampler refuses: an unknown option, a prompt or a length that is too long.
      NonFiniteError: logits are NaN.
    """
    dataset = trained.experiment.dataset
    dataset = cut(dataset, stop, begun(dataset, start))
    model = trained.experiment.model
    chosen = options(model, given)
    sequence = sequences.Sequence.of(dataset.spec)
    root = jax.random.key(coerce(Seed, seed, "--seed"))
    keys = row_keys(root, STREAM, jnp.arange(index, index + 1))
    prompt = {k: jnp.asarray(v) for k, v in start.items()}
    variables = trained.ready(average)
    _trace(model, chosen, variables, keys, prompt)
    assert model.decoder is not None
    tokens, lengths, starts = sequence.prefix(prompt, 1)
    room = (chosen.pop("length", None) or sequence.length + 1) - (tokens.shape[1] - starts)
    if room == 0:
        return
    how = {"length": room, "chunk": CHUNK, "lengths": lengths, **_policy(chosen)}
    chunks = autoregressive.stream(model.decoder, variables, keys, tokens, **how)
    seen = [int(t) for t in np.asarray(tokens)[0, starts:]]
    yield from _pieces(_tokenizer(dataset, "--stream"), seen, chunks)


def _trace(model: Model, chosen: Mapping[str, Any], *arguments: Any) -> None:
    """Raise the errors of the model's sampler, without compiling it."""
    assert model.sample is not None
    jax.eval_shape(functools.partial(model.sample, **chosen), *arguments)


def _policy(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampler's options as arguments of `autoregressive.stream`."""
    narrow = inspect.signature(Truncation).parameters
    out: dict[str, Any] = {k: chosen[k] for k in ("pad", "min_length", "constraint") if k in chosen}
    out["policy"] = Truncation(**{k: chosen[k] for k in chosen if k in narrow})
    stop_at = chosen.get("stop", ())
    out["stop"] = (stop_at,) if isinstance(stop_at, int) else stop_at
    return out


def _pieces(tokenizer: data.Tokenizer, seen: list[int], chunks: Any) -> Iterator[str]:
    """Yield the text that each chunk adds to the tokens seen so far."""
    written = tokenizer.decode(seen)
    for piece in chunks:
        if not np.isfinite(piece.log_probs).all():
            raise not_finite("the logits are")
        seen += [int(t) for t in np.asarray(piece.tokens)[0, : int(piece.lengths[0])]]
        # The last bytes of a character may still be missing: hold back what is not complete.
        text = tokenizer.decode(seen).rstrip(REPLACEMENT)
        if text.startswith(written) and len(text) > len(written):
            yield text[len(written) :]
            written = text
    text = tokenizer.decode(seen)
    if text.startswith(written) and len(text) > len(written):
        yield text[len(written) :]
