"""The contract with ourselves and with others: house rules, layers, packaging, documentation."""
