"""Extension points of evaluation from outside the package, for tests."""
