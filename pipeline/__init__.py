"""The engine of sisom: pools, rounds, Ray, storage, tracking.

`sisom` computes; this package reads pools, starts Ray, keeps the workspace and talks to people.
"""

__version__ = "0.1.0"
