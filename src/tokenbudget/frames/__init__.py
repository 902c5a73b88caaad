"""Vectorised twins (polars) of domain functions, equal to them to the nano."""
