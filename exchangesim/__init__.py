"""Simulated exchanges that speak the real wire protocols, in a process of their own. See README.md here."""
