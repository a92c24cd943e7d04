"""The study of acquisition strategies on labeled image sets."""
