"""The engine room of sisom: what runs where, what is stored, what is logged.

`sisom` computes; this package reads pools, starts Ray, keeps the workspace and talks to people.
"""

__version__ = "0.1.0"
