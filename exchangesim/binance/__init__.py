"""Binance spot as its public documentation describes it (binance/binance-spot-api-docs, July 2026)."""
