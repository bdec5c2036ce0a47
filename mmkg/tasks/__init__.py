"""Benchmarks: each file reads one benchmark's own files into plain rows and arrays, without any model.

:mod:`mars` reads analogies over MarKG, and :mod:`mars_controls` makes what tells reasoning from look-up;
:mod:`scienceqa` reads questions of choice.
"""
