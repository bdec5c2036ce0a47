"""Contrastive training: a small CLIP that learns from pictures with captions.

A folder of pictures and its ``index.tsv`` go in (:mod:`pictures`), are augmented (:mod:`augment`) and matched with
their captions by a loss that knows when a caption is true of several pictures (:mod:`loss`); out comes a run's folder
(:mod:`run`) with a model that open_clip loads (:mod:`model`) and figures of retrieval (:mod:`retrieval`).
"""
