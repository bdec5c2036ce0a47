"""Tests of subgraph extraction."""
