"""Build finite automata over bytes from regular expressions, JSON schemas and lists of words. No JAX."""
