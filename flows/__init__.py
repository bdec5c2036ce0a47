"""Prefect flows around ``mmkg``: when a graph is rebuilt, on which machines, and what is shown of it.

Nothing here knows how a graph is built: every task calls one function of ``mmkg.pipeline`` and passes paths, never
tables. On the way of a fact these files stand beside the path, not on it.
"""
