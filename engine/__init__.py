"""Surefire's engine: pure decisions in `core`, the world around them in the other rooms. Actors live in `actors`."""
