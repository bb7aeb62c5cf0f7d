"""How the measurements speak to the engine: the native dialect, and one account for signals that name none."""

from bench.market import ACCOUNT
from engine.edges.dialects import DialectTerms


def dialect_terms() -> DialectTerms:
    return DialectTerms(account=ACCOUNT)
