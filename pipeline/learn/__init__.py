"""From labeled rows to a trained network, its slopes and its accuracy."""
