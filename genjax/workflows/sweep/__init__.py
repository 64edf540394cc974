"""Train one config with several values of some fields and several seeds; see run.py."""
