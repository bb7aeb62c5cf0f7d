"""The market as data: tapes (recorded, live, synthetic), order books, and the matching that the paper venue uses."""
