"""Present run directories as tables, figures and pages. Reads plain files and imports no jax."""
