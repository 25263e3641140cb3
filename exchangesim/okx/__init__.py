"""The OKX v5 face: REST and WebSocket as OKX speaks them, spot with cash only.

Where the documentation leaves a choice, this face does what the exchange was last seen doing: ``checksum`` of the book
channels is 0 (the field is kept but no longer filled), a cancel of any order that is not open answers 51400, a price
between ticks answers 51000 for ``px``. There are no algo orders, candles, margin, contracts or transfers.
"""
