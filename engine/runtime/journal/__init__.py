"""The journal: an append-only chain of facts and the tables that follow from them, written in one transaction.

`base.py` is what its users see, `tables.py` turns rows into SQL, `sqlite.py` and `memory.py` are the stores.
"""
