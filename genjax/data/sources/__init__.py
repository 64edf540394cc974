"""Read data: one file for each source, named before the colon of data.name. See genjax.data.load.Loaded."""
