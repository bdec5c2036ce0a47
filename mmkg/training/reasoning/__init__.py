"""Training of reasoners on questions over multimodal subgraphs.

:mod:`.questions` is what is asked, :mod:`.question_learner` what is learnt from it, :mod:`.run` the run and its report.
Questions come from :mod:`.synthetic` (made, the answer is in the graph alone), :mod:`.scene_pretraining` (scene graphs
of pictures, the paper's stage 1) and :mod:`.scienceqa`; :mod:`.recipe` holds the settings of each. :mod:`.mars` ranks
candidates instead of answering, and has a folder of its own.
"""
