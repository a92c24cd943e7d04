"""A trained network as a value, and what it makes of pixels."""
