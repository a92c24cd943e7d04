"""The choice of a query from score files, with reasons."""
