"""How signals come in and results go out. Dialects are pure; sources and sinks wait, and decide nothing."""
