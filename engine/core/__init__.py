"""Decisions, and nothing else.

Everything here is a synchronous function of its arguments, time included. No trio, clock, disk, randomness, logging or
threads, and no import of ours from outside this room: what the core must know, its caller hands in.
"""
