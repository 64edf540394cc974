"""Configure a comparison of sequence-model families on one text and budget, for `genjax compare`.

Sizes are TEXT-BUDGET: `shakespeare-examples` (equal tokens), `shakespeare-seconds`, `pydoc-seconds`, and
`smoke`. `python -m experiments.text_families` runs both budgets of a text and joins their tables.
"""

from ml_collections import ConfigDict

FAMILIES = {
    "ngram": ("5-gram", "modified Kneser-Ney"),
    "infinigram": ("∞-gram", "longest match in a suffix array"),
    "rnn": ("RNN", "Elman"),
    "gru": ("GRU", ""),
    "lstm": ("LSTM", ""),
    "gpt2": ("GPT-2", "the GPT-2 form: LayerNorm, GELU, learned positions"),
    "gpt": ("GPT", "the modern form: RMSNorm, rotary positions, squared ReLU"),
}
COUNTING = {"ngram": ("model.order=5",), "infinigram": ()}
"""Counting models and overrides of their configs. They read the text once, in order."""
SECONDS = 30
ROWS = 24_000
"""2,000 steps of 12 rows: nanoGPT's published setting for a CPU."""


def _overrides(name: str, smoke: bool) -> tuple[str, ...]:
    """Return the overrides of one family's config."""
    if smoke:
        return ("data.length=16", "data.limit=200")
    if name in COUNTING:
        return ("data.length=64", "data.batch=128", *COUNTING[name])
    return ("data.length=64", "train.eval_every=250", "train.eval_batches=None")


def get_config(size: str = "shakespeare-examples") -> ConfigDict:
    """Return the comparison of this size."""
    smoke = size == "smoke"
    text, _, budget = size.partition("-")
    config = ConfigDict()
    config.name = f"text-{size}"
    config.seed = 0
    if smoke:
        config.title = "Sequence models, a few steps each"
        text = "pydoc"
        config.budget = {"kind": "steps", "value": 8}
    else:
        what = {"examples": "equal tokens", "seconds": "equal seconds"}[budget]
        config.title = f"From n-grams to transformers on one text, at {what}"
        config.budget = {"kind": budget, "value": ROWS if budget == "examples" else SECONDS}
    entries = {}
    for name, (family, description) in FAMILIES.items():
        own = name if text == "shakespeare" or name != "gpt2" else "gpt"
        entries[name] = {
            "config": f"{text}/{own}" + (":smoke" if smoke else ""),
            "family": family,
            "description": description,
            "overrides": _overrides(name, smoke),
            "passes": 1 if name in COUNTING else None,
        }
    if text != "shakespeare":
        del entries["gpt2"]
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    if smoke:
        config.evaluate = {"batch": 8}
    return config
