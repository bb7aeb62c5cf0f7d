"""The world without a venue: clock, mail, journal, halts, supervision, config, logs. Decides as little as it can."""
