"""The conformance kit: one numbered list of cases that every venue adapter must pass (SPEC VEN6).

`python -m tests.conformance VENUE` runs it against the local exchange, with faults; with `--config` it runs what needs
no faults on a testnet, with the user's own keys.
"""
