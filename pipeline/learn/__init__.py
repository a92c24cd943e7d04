"""Training on labeled rows: the network, its slopes, its accuracy."""
