"""mmkg: multimodal knowledge graphs from dumps to reasoners."""
