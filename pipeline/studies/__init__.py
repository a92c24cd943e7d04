"""Studies: strategies, detectors and variants of SISOM compared on equal terms."""
