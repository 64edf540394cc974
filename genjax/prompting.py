"""From a person's words to what samplers take, and from tokens to words as they are drawn."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax import data, run
from genjax.core import Batch, row_keys
from genjax.errors import ConfigError, DataError
from genjax.sampling import autoregressive, constraints
from genjax.sampling.logits import Truncation
from genjax.views.sequences import Sequence

CHUNK = 8
"""Tokens that are drawn between two writes to the terminal."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _tokenizer(dataset: data.Dataset, what: str) -> data.Tokenizer:
    if dataset.tokenizer is None:
        raise ConfigError(f"{what}: {dataset.name} is not text", "use --label, or a run on text")
    return dataset.tokenizer


def prompt(dataset: data.Dataset, text: str, num: int) -> Batch:
    """The prompt of `num` rows: text to go on from, or where the data is pairs, the source to translate.

    Raises:
      ConfigError: the data is not text, or the text is empty or too long for a source.
    """
    tokens = np.asarray(_tokenizer(dataset, "--prompt").encode(text), np.int32)
    if not len(tokens):
        raise ConfigError("--prompt is empty", "leave it out to draw without one")
    if "source" not in dataset.spec:
        return {"tokens": np.tile(tokens, (num, 1))}
    special, width = dataset.spec.special, dataset.spec["source"].shape[0]
    if "eos" in special:
        tokens = np.append(tokens, special["eos"])
    if len(tokens) > width:
        raise ConfigError(
            f"--prompt has {len(tokens)} tokens, and a source at most {width}", "give it in sentences"
        )
    padded = np.pad(tokens, (0, width - len(tokens)), constant_values=special.get("pad", 0))
    return {
        "source": np.tile(padded.astype(np.int32), (num, 1)),
        "source_length": np.full(num, len(tokens), np.int32),
    }


def stop(dataset: data.Dataset, text: str) -> tuple[int, ...]:
    """The tokens that end a row where `text` does.

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
    """What every sample must match from its prompt on; None where nothing is asked.

    Args:
      regex: a regular expression; schema: a JSON schema, or the path of one; words: separated by commas.

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
            schema = Path(schema).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise DataError(f"--json-schema={schema}: {error}", "give JSON, or a file of it") from error
    return constraints.json_schema(schema, pieces)


def streams(trained: run.Trained, given: Mapping[str, Any]) -> bool:
    """Whether what is drawn can be written while it is: running text, drawn token by token."""
    experiment = trained.experiment
    text = "tokens" in experiment.dataset.spec and experiment.dataset.tokenizer is not None
    plain = given.get("guidance", 1.0) == 1.0 and given.get("beams", 1) == 1
    return text and plain and experiment.model.decoder is not None


def stream(
    trained: run.Trained, given: Mapping[str, Any], start: Batch, seed: int, average: str | None = "eval"
) -> Iterator[str]:
    """What follows the prompt in one row, piece by piece, as `run.sampler` would draw it.

    Args:
      given: knobs of the sampler.
      start: the prompt of one row.

    Raises:
      ConfigError: an unknown knob; a prompt that is too long.
    """
    experiment = trained.experiment
    model, dataset = experiment.model, experiment.dataset
    knobs = run.knobs(model, given, "sample")
    sequence, tokenizer = Sequence.of(dataset.spec), dataset.tokenizer
    assert tokenizer is not None
    assert model.decoder is not None
    variables = jax.jit(model.finish)(trained.variables.at(average))
    tokens, lengths, starts = sequence.prefix({k: jax.numpy.asarray(v) for k, v in start.items()}, 1)
    asked = knobs.pop("length", None)
    room = (asked or sequence.length + 1) - (tokens.shape[1] - starts)
    if room < 1:
        raise ConfigError(
            f"a prompt of {tokens.shape[1]} tokens leaves no room", "raise --sample.length, or shorten it"
        )
    narrow = inspect.signature(Truncation).parameters
    policy = Truncation(**{k: knobs[k] for k in knobs if k in narrow})
    ends = {k: knobs[k] for k in ("pad", "min_length", "constraint") if k in knobs}
    stop_at = knobs.get("stop", ())
    ends["stop"] = (stop_at,) if isinstance(stop_at, int) else tuple(stop_at)
    keys = row_keys(jax.random.key(seed), run.SAMPLING, jax.numpy.arange(1))
    chunks = autoregressive.stream(
        model.decoder,
        variables,
        keys,
        tokens,
        length=room,
        chunk=CHUNK,
        lengths=lengths,
        policy=policy,
        **ends,
    )
    seen = [int(t) for t in np.asarray(tokens)[0, starts:]]
    written = tokenizer.decode(seen)
    for piece in chunks:
        seen += [int(t) for t in np.asarray(piece.tokens)[0, : int(piece.lengths[0])]]
        # A character's last bytes may still be to come: what is not whole yet waits.
        text = tokenizer.decode(seen).rstrip(REPLACEMENT)
        if text.startswith(written) and len(text) > len(written):
            yield text[len(written) :]
            written = text
    text = tokenizer.decode(seen)
    if text.startswith(written) and len(text) > len(written):
        yield text[len(written) :]
