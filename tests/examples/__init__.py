"""Tests of what is bundled in ``examples/``."""
