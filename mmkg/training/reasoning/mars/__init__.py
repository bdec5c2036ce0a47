"""MR-MKG on MARS: graph and subgraphs of analogies, what is known of candidates, the learner, recipes and runs."""
