"""The HTTP API: JSON under ``/api/``, described at ``/api/docs``. Addresses are in :mod:`bots.api.site`."""
