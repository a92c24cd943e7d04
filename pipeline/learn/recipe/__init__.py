"""Parts of a training that a config chooses."""
