"""From a model to numbers that can be believed: ranks, metrics with intervals, comparisons, reports."""
