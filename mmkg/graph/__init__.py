"""The graph out of statements: identity, indices, literals, splits, validation and lossless export."""
