"""Measure genjax's n-gram model: rows of text, the real training step, `finish`, the exact likelihood."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genjax.core import Element, Spec
from genjax.models import ngram
from genjax.training.step import create, make_step

LENGTH = 1024
BATCH = 32


class Measured(NamedTuple):
    """Hold perplexity, the numbers of scored and of unseen tokens, and seconds.

    Attributes:
      read: seconds of reading the training text.
      finish: seconds of sorting and smoothing the counts.
      score: seconds of scoring the held-out text.
      compile: seconds of compilation.
    """

    perplexity: float
    tokens: int
    unseen: int
    read: float
    finish: float
    score: float
    compile: float


def rows(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Cut a text into windows that share one token; pad the last (`token_mask`) and the batch (`mask`)."""
    number = -(-(len(tokens) - 1) // LENGTH)
    whole = -(-number // BATCH) * BATCH
    padded = np.zeros(whole * LENGTH + 1, np.int32)
    padded[: len(tokens)] = tokens
    real = np.arange(whole * LENGTH + 1) < len(tokens)
    window = np.arange(whole)[:, None] * LENGTH + np.arange(LENGTH + 1)
    mask = (np.arange(whole) < number).astype(np.float32)
    return {"tokens": padded[window], "token_mask": real[window[:, 1:]].astype(np.float32), "mask": mask}


def measure(text: Any, order: int) -> Measured:
    """Train on text.train and score text.held, after an end token, since every line begins after one."""
    train = rows(text.train)
    held = rows(np.insert(text.held, 0, text.end))
    elements = {
        "tokens": Element((LENGTH + 1,), "int32", text.levels, kind="tokens", role="target"),
        "token_mask": Element((LENGTH,), "float32"),
    }
    config = ngram.Config(order=order, smoothing="kneser_ney", end=text.end)
    model = ngram.build(config, Spec(elements, int(train["mask"].sum())), {})
    began = time.perf_counter()
    optimizers = {"model": optax.sgd(0.0)}
    example = {k: jnp.asarray(v[:BATCH]) for k, v in train.items()}
    state = create(model, optimizers, jax.random.key(0), example)
    step = jax.jit(make_step(model, optimizers), static_argnums=4, donate_argnums=0)
    learn = step.lower(state, {}, example, jax.random.key(1), ("nll",)).compile()
    finish = jax.jit(model.finish).lower(state.variables).compile()
    finished = jax.eval_shape(model.finish, state.variables)
    one = {k: v[:1] for k, v in held.items()}
    assert model.likelihood is not None
    likelihood = jax.jit(model.likelihood).lower(finished, {**one, "carry": model.carry(one)}, None).compile()
    marks = [began, time.perf_counter()]
    for i in range(0, len(train["mask"]), BATCH):
        batch = {k: v[i : i + BATCH] for k, v in train.items()}
        state, _ = learn(state, {}, batch, jax.random.key(1))
    marks.append(time.perf_counter())
    variables = jax.block_until_ready(finish(state.variables))
    marks.append(time.perf_counter())
    nats = 0.0
    count = 0
    carry = model.carry(one)
    for i in range(int(held["mask"].sum())):
        row = {k: v[i : i + 1] for k, v in held.items()}
        mean, carry = likelihood(variables, {**row, "carry": carry}, None)
        nats += float(mean.total[0])
        count += int(mean.count[0])
    marks.append(time.perf_counter())
    compiling, read, sort, score = np.diff(marks).tolist()
    unseen = int((~np.isin(text.held, text.train)).sum())
    return Measured(float(np.exp(nats / count)), count, unseen, read, sort, score, compiling)
