"""Parts that the kinds of studies share: cells, networks, features, tables."""
