"""The Bybit v5 face: REST and WebSocket as Bybit speaks them, spot category of a unified account only.

Where the documentation leaves a choice, this face does what the exchange was last seen doing: a cancel of any order
that is not open answers 170213, the level 1 book sends snapshots only, ``seq`` of trades is their own id. There are no
conditional or attached stop orders, margin, candles or contracts.
"""
