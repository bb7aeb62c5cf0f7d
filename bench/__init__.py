"""Measurements, each answering one question: `python -m bench NAME`. Figures of one run compare, of two seldom."""
