"""Rounds: their steps, one after another."""
