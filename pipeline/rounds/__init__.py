"""One round from top to bottom, and rounds one after another."""
