"""Third parties' clients, each a program of its own that trades on the exchange it is given and prints what it saw."""

import faulthandler

from tests.patience import PATIENCE_SECONDS

faulthandler.dump_traceback_later(2 * PATIENCE_SECONDS, exit=True)  # one that waits for ever tells where
