"""The pure core: what usage, prices, charges, budgets and holds mean. Standard library only."""
