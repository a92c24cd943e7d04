"""A trained network as a value, and its features of pixels."""
