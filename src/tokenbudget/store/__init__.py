"""SQL and nothing else: tables, queries and the one place that commits (db.py)."""
