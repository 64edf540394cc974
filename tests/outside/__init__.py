"""Extensions outside the package, as a user would write them: found by their dotted names alone."""
