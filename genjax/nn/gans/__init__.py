"""Networks of adversarial models, one file each.

A file has a `Config`, five functions, and EQUALISED: whether its kernels are scaled at run time. The module
of `generator(config, shape)` maps (z, condition, train, keys) to rows of that shape, in the values that
networks read (images in [-1, 1]); `keys` are of the rows, for noise within the network, and may be None. A
generator with styles also has `mapping`, `repeated`, `synthesis` and `truncated`. The module of
`critic(config, shape)` maps (x, condition, train) to features (B, F), of which nn/critics.py makes a logit.
The condition is (B, K), with K = 0 if there is none. Both raise ConfigError for shapes that they do not
support, and `fits(config, shape, classes, latent)` for what does not go with the config. Batch statistics lie
in the collection "batch_stats"; `normalises(config)` tells whether generator and critic look across rows.
`kernels(config, params, latent)` returns for each code of the generator (z, or a style for each layer) the
kernel (W, N) of the linear maps that read it.
"""
