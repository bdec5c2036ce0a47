"""Learning from a build: data, recipes, the loop, checkpoints, and runs that others can repeat."""
