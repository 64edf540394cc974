"""Configure a comparison of sequence models on Bach's chorales, for `genjax compare`.

GENJAX_ORIGINALS=... genjax compare --config=experiments/jsb/compare.py:rolls     (or keys, voices, smoke)

Sizes: `rolls`, frames of 88 keys, one per quarter note; `keys`, the same with every training piece in eleven
keys; `voices`, four voices in sixteenth notes, one token each, also in eleven keys; `smoke`, a few steps.
Models are scored on the test pieces; settings were chosen on the validation pieces.
"""

from ml_collections import ConfigDict

ROLLS = {
    "rnn": ("chorales/lstm", "RNN", ("model.cell=elman", "optimizer.learning_rate=1e-3")),
    "lstm": ("chorales/lstm", "LSTM", ()),
    "gru": ("chorales/gru", "GRU", ()),
    "gpt": ("chorales/gpt", "GPT", ()),
}
KEYS = ("data.transpose=5",)
ONE_KEY = ("data.transpose=0", "model.layers=2", "optimizer.learning_rate=2e-3", "optimizer.weight_decay=2.0")
"""Best settings found for the GPT without transposition. It overfits after 35 passes."""
WINDOW = ("data.name=chorales:voices", "data.length=512", "data.eval_batch=64")
VOICES = {
    "ngram": ("pydoc/ngram", "8-gram", ("data.batch=16", "model.order=8")),
    "lstm": ("chorales/lstm", "LSTM", ("data.batch=16", "model.layers=2")),
    "gpt": ("chorales/gpt", "GPT", ("model.windows=(32, 128)", "model.condition_dropout=0.0")),
}


STEPS = {"rolls": 1200, "keys": 1200, "voices": 400, "smoke": 8}
TITLES = {
    "keys": "Bach's chorales as piano rolls, in eleven keys",
    "voices": "Bach's chorales as four voices",
}


def get_config(size: str = "rolls") -> ConfigDict:
    """Return the comparison of this size."""
    config = ConfigDict()
    smoke = size == "smoke"
    config.name = f"chorales-{size}"
    config.seed = 0
    config.title = TITLES.get(size, "Bach's chorales as piano rolls")
    config.budget = {"kind": "steps", "value": STEPS[size]}
    entries = {}
    for name, (path, family, changes) in (VOICES if size == "voices" else ROLLS).items():
        fixed = {"voices": (*WINDOW, *KEYS), "keys": KEYS}.get(size, ())
        alone = size == "rolls" and name == "gpt"
        test = () if smoke else ("data.eval_split=test", "train.eval_every=200")
        entries[name] = {
            "config": path + (":smoke" if smoke else ""),
            "family": family,
            "overrides": (*fixed, *test, *changes, *(ONE_KEY if alone else ())),
            "passes": 1 if family.endswith("gram") else 35 if alone else None,
        }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    if smoke:
        config.evaluate = {"batch": 8}
    return config
