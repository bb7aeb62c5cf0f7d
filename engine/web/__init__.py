"""The API: reads, commands and the live stream over one loopback port. Decides and remembers nothing itself."""
