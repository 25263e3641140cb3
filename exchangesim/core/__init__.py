"""One simulated venue: books, matching, accounts, limits, latency, faults. Knows no wire protocol."""
