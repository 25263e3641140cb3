"""A deterministic simulation: the real engine under virtual time, between a modelled exchange and a modelled database.

One seed is one history. Everything that happens in it, faults and crashes included, follows from the seed, so that a
history that went wrong can be run again. What is checked at its end is read from the exchange's and the database's
records, never from the engine's own books.
"""
