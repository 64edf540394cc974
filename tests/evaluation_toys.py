"""A small dataset of known distribution and a model of it, for the tests of evaluation."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core import Aux, Element, Mean, Model, Phase, Spec, Variables
from genjax.evaluation import Config, Features

CLASSES = 3
SIDE = 4


class Split:
    """Rows in memory, with the two methods of a data split that evaluation uses."""

    def __init__(self, columns: dict[str, np.ndarray]):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, indices: Any) -> dict[str, np.ndarray]:
        return {k: v[np.asarray(indices)] for k, v in self.columns.items()}

    def stream(self, order: str, batch: int, **_: Any) -> Any:
        return Stream(self, order, batch)


class Stream:
    def __init__(self, split: Split, order: str, batch: int):
        self.split = split
        self.order = order
        self.batch = batch

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        n = len(self.split)
        here = np.arange(self.batch)
        if self.order == "lanes":
            return {
                **self.split.rows((here * n // self.batch + i) % n),
                "mask": np.ones(self.batch, np.float32),
            }
        at = here + i * self.batch
        return {**self.split.rows(np.minimum(at, n - 1)), "mask": (at < n).astype(np.float32)}


class Data:
    """Images of class c: a pattern of mean 60 + 60 c with noise."""

    name = "stripes"
    fingerprint = "f1"
    config: Any = None

    def __init__(self, train: int = 120, held_out: int = 50):
        self.spec = Spec(
            {
                "image": Element((SIDE, SIDE, 1), "uint8", 256, "image", "target"),
                "label": Element((), "int32", CLASSES, "label", "condition"),
            },
            train,
        )
        rng = np.random.default_rng(0)
        self.train, self.eval = (Split(self.draw(rng, n)) for n in (train, held_out))

    def draw(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        label = rng.integers(0, CLASSES, n).astype(np.int32)
        noise = rng.normal(0, 12, (n, SIDE, SIDE, 1))
        image = np.clip(60 + 60 * label[:, None, None, None] + noise, 0, 255).astype(np.uint8)
        return {"image": image, "label": label}


def embed(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float32).reshape(len(images), -1) / 255


def classify(images: np.ndarray) -> np.ndarray:
    return np.clip(np.round((images.reshape(len(images), -1).mean(1) - 60) / 60), 0, CLASSES - 1).astype(int)


FEATURES = Features(embed, classify, "digest-1", "pixels")
CONFIG = Config(sets=2, batch=16, metrics=("frechet", "kid", "prdc", "accuracy", "diversity", "neighbours"))


def gaussian(noise: float = 12.0) -> Model:
    """Draws the data's own distribution (at noise 12); learns one number; exact likelihood of ln 256 a
    pixel."""

    def init(key, batch, frozen):
        return Variables(params={"model": {"shift": jnp.zeros(())}}, ema={}, frozen=frozen)

    def loss(v, batch, keys, *, step):
        x = batch["image"].astype(jnp.float32).mean((1, 2, 3)) - v.params["model"]["shift"]
        return Mean.of(x * x, batch["mask"]), Aux(v.state)

    def draw(v, key, label):
        x = 60 + 60 * label + v.params["model"]["shift"] + noise * jax.random.normal(key, (SIDE, SIDE, 1))
        return jnp.clip(x, 0, 255).astype(jnp.uint8)

    def sample(v, keys, prompt, *, scale=1.0):
        label = prompt.get("label", jnp.zeros(keys.shape[0], jnp.int32))
        return {"image": jax.vmap(draw, (None, 0, 0))(v, keys, label * jnp.int32(scale)), "label": label}

    def score(v, batch, keys):
        size = SIDE * SIDE * jnp.ones(keys.shape[0])
        return Mean(size * jnp.log(256.0), size), {}

    return Model(init, {"main": Phase("model", loss)}, sample=sample, likelihood=score)


def fitted(model: Model) -> Variables:
    return model.init(jax.random.key(0), Data().spec.example(2), {})


@dataclasses.dataclass(frozen=True)
class ToyData:
    """Stand for a data section; `batch` does not say which rows there are."""

    name: str = "stripes"
    limit: int = 5
    batch: int = 3


TOY_DATA = ToyData()


def by_name(scores: list) -> dict:
    return {s.name: s for s in scores}


class Pairs(Data):
    """A source image and its answer: the source's negative."""

    def __init__(self, held_out: int = 10):
        image = Element((SIDE, SIDE, 1), "uint8", 256, "image")
        elements = {"input": image.replace(role="condition"), "answer": image.replace(role="target")}
        self.spec = Spec(elements, 20, paired=True)
        rng = np.random.default_rng(0)

        def rows(n):
            x = rng.integers(10, 240, (n, SIDE, SIDE, 1)).astype(np.uint8)
            return Split({"input": x, "answer": 255 - x})

        self.train = rows(20)
        self.eval = rows(held_out)
