"""Tests of the pipeline and of the algorithm, in folders like their sources."""
