"""Runs engines: the ports of :mod:`trading.ports` on Django, and the host that holds owners' leases.

``process`` is what tasks and the command that owns the signals call; ``host`` takes owners that need an engine;
``owner`` runs one; ``store``, ``publisher``, ``leases`` and ``database`` are what an engine stands on.
"""
