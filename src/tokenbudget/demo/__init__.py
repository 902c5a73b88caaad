"""The demonstration: recorded traffic, a sample organisation and a bill to reconcile.

It refuses to write to the ledger. Token counts, clients, arrival shape and, where a trace names
them, models and reported costs are real. Teams, features, budgets, owners and the bill are made up;
``traces.PROVENANCE`` says so wherever the replay is shown.
"""
