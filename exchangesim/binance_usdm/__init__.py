"""Binance USD-M futures as its public documentation describes them.

https://developers.binance.com/docs/derivatives/usds-margined-futures, as of 2026: conditional orders are the algo
service's, and books, market data and user data have stream addresses of their own.
"""
