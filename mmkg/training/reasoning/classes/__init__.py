"""Telling what class an entity is of, unseen classes too: recipes, questions and runs of Graph4MM on MarKG."""
