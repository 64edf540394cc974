"""English to German on Multi30k with a transformer of 2.6 million parameters, built from the fields of T5.

    GENJAX_ORIGINALS=... genjax train --config=multi30k/t5        (scores: python -m experiments.multi30k)

4 + 4 layers of width 128 with 4 heads, pre-norm, sinusoidal positions, and one embedding of a joint BPE of
6,000 tokens for both languages and the output. The published Transformer-Tiny (Wu et al. 2021,
arXiv:2105.14462, and its code) has 4 + 4 layers of width 128 with 4 heads and an MLP of 256, a joint BPE of
about 10,000, dropout 0.3, a learning rate of 0.005 after 2,000 warm-up steps, at most 8,000 updates of two
times 4,096 tokens; beam 5 on the average of the last ten epochs gave BLEU 41.02 on the tokens of test2016.
Here the vocabulary is smaller and the MLP wider at equal parameters; 5,000 updates of 128 pairs take about an
hour on two cores.
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on short pairs of the same data."""
    config = ml_collections.ConfigDict()
    config.name = "multi30k-t5"
    config.data = {
        "name": "multi30k",
        "batch": 128,
        "tokenizer": "bpe",
        "vocabulary": 6_000,
        "buckets": (16, 24, 32, 48),
    }
    config.model = {
        "name": "t5",
        "layers": 4,
        "heads": 4,
        "width": 128,
        "mlp": 4.0,
        "norm": "layernorm",
        "epsilon": 1e-5,
        "bias": True,
        "prenorm": True,
        "position": "sinusoidal",
        "scaled_attention": True,
        "scale_logits": False,
        "scale_embedding": True,
        "dropout": 0.2,
        "smoothing": 0.1,
    }
    config.optimizer = {
        "name": "muon",
        "learning_rate": 4e-3,
        "b2": 0.98,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup": 0.05,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 5000, "eval_every": 500, "averages": {"eval": {"half_life": 20_000.0}}}
    if size == "smoke":
        config.data.update({"batch": 4, "length": 24, "vocabulary": 300, "buckets": ()})
        config.model.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train = {"steps": 8, "eval_every": 0, "eval_batches": 1}
    return config
