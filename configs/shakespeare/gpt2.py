"""GPT-2's form on the characters of tiny_shakespeare, in nanoGPT's published setting for a CPU.

    genjax train --config=shakespeare/gpt2

Layers, heads, width, context, batch and steps: github.com/karpathy/nanoGPT, whose README gives a loss of
1.88 (config/train_shakespeare_char.py with block_size 64, batch_size 12, n_layer 4, n_head 4, n_embd 128,
max_iters and lr_decay_iters 2000, dropout 0): no biases, a tied head. There the loss is a mean over random
windows of the last tenth of the text. Here it is over all of that tenth, in windows of 64 that do not overlap
and are read without earlier context: 1.812 nats with this learning rate (that of shakespeare/gpt), 1.909 with
nanoGPT's (--config.optimizer.learning_rate=1e-3 --config.optimizer.end=0.1). One seed each.
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on text that needs no download."""
    config = ml_collections.ConfigDict()
    config.name = "shakespeare-gpt2"
    config.data = {"name": "tfds:tiny_shakespeare", "tokenizer": "chars", "batch": 12, "length": 64}
    config.data.eval_split = "validation+test"
    config.model = {
        "name": "gpt",
        "layers": 4,
        "heads": 4,
        "width": 128,
        "activation": "gelu",
        "tied": True,
        # As in nanoGPT, the first character of a row is not predicted: samples begin with a prompt.
        "condition_dropout": 0.0,
    }
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 2e-3,
        "b1": 0.9,
        "b2": 0.99,
        "weight_decay": 0.1,
        "decay_mask": "(kernel|embedding)$",
        "schedule": "cosine",
        "warmup": 0.05,
        "end": 0.05,
        "clip": 1.0,
    }
    config.train = {"steps": 2000, "eval_every": 500}
    config.sample = {"temperature": 0.8}
    if size == "smoke":
        config.data.update({"name": "pydoc", "eval_split": None, "batch": 4, "length": 16})
        config.model.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 0, "eval_batches": 1})
    return config
