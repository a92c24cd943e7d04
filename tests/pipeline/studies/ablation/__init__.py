"""Tests of the ablation study."""
