"""Training of tiny language models, so that reasoners have a real one to read with where none can be downloaded.

Rows of prompts and answers go in (:mod:`text`), with a tokenizer made of them; out comes a run's folder (:mod:`run`)
with a model as transformers saves it (:mod:`model`) and figures of what it knows and can read (:mod:`figures`).
"""
