// Trade modes: whose money a figure is. Amounts of two modes are never added together.

/** The most real first. */
export const MODES = ["live", "testnet", "simulated", "paper"];

/** Sort order of a mode; one of a newer server comes last. */
export function modeRank(mode) {
  const rank = MODES.indexOf(mode);
  return rank < 0 ? MODES.length : rank;
}

/** Sort `{mode, asset}`s: the most real first, then by asset. */
export function byModeAndAsset(a, b) {
  return modeRank(a.mode) - modeRank(b.mode) || (a.asset < b.asset ? -1 : 1);
}
