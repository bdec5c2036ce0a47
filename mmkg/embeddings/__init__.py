"""From picture and text to vector: embedders, the pipeline that runs them, shards that say who made them, search."""
