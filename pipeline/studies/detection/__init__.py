"""The study of out-of-distribution detectors."""
