"""Scoring the pool with Ray Data, and the account of every row."""
