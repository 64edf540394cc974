"""Networks of adversarial models, one file each.

A file has a `Config` and two functions. `generator(config, shape) -> module` maps (z, condition, train) to rows of
that shape, in the values that networks read (images in [-1, 1]). `critic(config, shape) -> module` maps (x,
condition, train) to features (B, F), of which nn/critics.py makes a logit. The condition is (B, K), with K = 0 if
there is none. Both may raise ConfigError for shapes that they do not support. Batch statistics lie in the
collection "batch_stats".
"""
