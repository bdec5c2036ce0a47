"""Describing an entity from its neighbourhood: recipes, questions and runs of Graph4MM on a knowledge graph."""
