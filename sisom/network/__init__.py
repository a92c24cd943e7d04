"""Networks: models by name, layers, taps and features."""
