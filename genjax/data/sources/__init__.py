"""Where data comes from: one file for each first word of a dataset's name. See genjax.data.load.Loaded."""
