"""Vectorised twins (polars) of domain functions, over whole tables and equal to them to the nano."""
