"""From node states to answers. Link prediction is here first: which entity completes a triple."""
