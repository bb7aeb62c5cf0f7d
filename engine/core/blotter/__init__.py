"""One (account, symbol)'s orders and position. `blotter.py` is the way in; the other files are its parts."""

from engine.core.blotter.blotter import Blotter, Message, Step
from engine.core.blotter.sheet import Seen, Terms

__all__ = ["Blotter", "Message", "Seen", "Step", "Terms"]
