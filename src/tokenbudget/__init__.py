"""tokenbudget: FinOps for LLM spend that companies run themselves."""

__version__ = "0.1.0"
