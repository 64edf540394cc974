"""genjax: every major family of generative model behind one contract, one loop and one evaluation."""

__version__ = "0.1.0"
