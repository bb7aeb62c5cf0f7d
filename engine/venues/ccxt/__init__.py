"""Any exchange that ccxt knows, spot or linear futures, by ccxt itself in processes of their own (SPEC VEN3)."""
