"""Studies: strategies, detectors and variants of SISOM on equal terms, every cell a Ray Tune trial."""
