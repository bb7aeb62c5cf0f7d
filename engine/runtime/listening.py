"""Ports of our own: one that cannot be had is told with what wanted it and where, not by the system's number."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def told_by_place(what: str, host: str, port: int) -> Iterator[None]:
    """Round whatever binds; its OSError comes out with the place in its text."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]  # Python adds the address in a form of its own
        raise OSError(error.errno, f"{what} cannot listen on {host}, port {port}: {why}") from error
