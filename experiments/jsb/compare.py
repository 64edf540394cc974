"""Bach's chorales under one budget: a config of `genjax compare`.

GENJAX_ORIGINALS=... genjax compare --config=experiments/jsb/compare.py:rolls     (or voices, or smoke)

The sizes: `rolls`, 88-key frames, a quarter note each; `voices`, four voices at sixteenths, token by token.
Scores are of the test pieces. Each model is trained with or without transposition as the validation pieces
preferred it, the LSTM both ways; of voices, which are in many keys, all with it.
"""

from ml_collections import ConfigDict

ROLLS = {
    "rnn": ("chorales/lstm", "RNN", ("model.cell=elman", "optimizer.learning_rate=1e-3")),
    "lstm": ("chorales/lstm", "LSTM", ()),
    "lstm_keys": ("chorales/lstm", "LSTM, 11 keys", ("data.transpose=5",)),
    "gru": ("chorales/gru", "GRU", ()),
    "gpt": ("chorales/gpt", "GPT, 11 keys", ()),
}
WINDOW = ("data.name=chorales:voices", "data.length=512", "data.eval_batch=64", "data.transpose=5")
VOICES = {
    "ngram": ("pydoc/ngram", "8-gram", ("data.batch=16", "model.order=8")),
    "lstm": ("chorales/lstm", "LSTM", ("data.batch=16", "model.layers=2")),
    "gpt": ("chorales/gpt", "GPT", ("data.batch=16", "model.windows=(32, 128)")),
}


def get_config(size: str = "rolls") -> ConfigDict:
    config, smoke = ConfigDict(), size == "smoke"
    config.name = f"chorales-{size}"
    config.seed = 0
    config.title = "Bach's chorales " + ("as four voices" if size == "voices" else "as piano rolls")
    config.budget = {"kind": "steps", "value": 8 if smoke else 400 if size == "voices" else 1200}
    entries = {}
    for name, (path, family, changes) in (VOICES if size == "voices" else ROLLS).items():
        fixed = WINDOW if size == "voices" else ()
        test = () if smoke else ("data.eval_split=test", "train.eval_every=200")
        entries[name] = {
            "config": path + (":smoke" if smoke else ""),
            "family": family,
            "overrides": (*fixed, *test, *changes),
            "passes": 1 if family.endswith("gram") else None,
        }
    config.entries = ConfigDict(entries, sort_keys=False)  # the report's order
    if smoke:
        config.evaluate = {"batch": 8}
    return config
