"""Writing a section's first sentence from the rest of it and the page around: Graph4MM on WikiWeb2M."""
