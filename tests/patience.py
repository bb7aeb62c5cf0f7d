"""How long a test waits for what must come. It costs nothing where it comes, and no machine is that slow."""

PATIENCE_SECONDS = 60.0
