"""Quotes of a contract: the fair price of its base asset with a basis that wanders."""

from __future__ import annotations

import math

from exchangesim.core.synthetic import BPS, Quoter, SyntheticSettings

# Basis points. With these a contract is a tenth of a per cent and more from its index now and then, either way.
MEAN, DEVIATION, SECONDS = 4.0, 9.0, 240.0


class ContractQuoter(Quoter):
    """A quoter whose market stands a small premium above the fair price most of the time."""

    def configure(self, settings: SyntheticSettings) -> Quoter:
        self.basis_bps = self._random.gauss(MEAN, DEVIATION)
        return super().configure(settings)

    def step(self) -> None:
        decay = math.exp(-self._settings.interval / SECONDS)
        away = (self.basis_bps - MEAN) * decay
        self.basis_bps = MEAN + away + DEVIATION * math.sqrt(1 - decay * decay) * self._random.gauss(0.0, 1.0)
        super().step()

    @property
    def _fair(self) -> float:
        return super()._fair * (1 + self.basis_bps * BPS)
