"""Linear perpetual contracts: positions, margin, funding and liquidation over the same books and matching as spot."""
