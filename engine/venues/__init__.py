"""Venues: how orders leave and reports come back. Adapters send, ask and translate; they decide nothing."""
