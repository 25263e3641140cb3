// Numbers, ages and words as the page shows them. Pure functions; amounts stay decimal strings, never floats.

const MINUS = "\u2212";
const FIGURE_SPACE = "\u2007"; // as wide as a digit
const PUNCTUATION_SPACE = "\u2008"; // as wide as the point

const DECIMAL = /^([+-]?)(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?$/;

/** Parse a decimal string into `{units, scale}`, its value being units / 10^scale; null if it is not a number. */
export function parseDecimal(text) {
  const match = DECIMAL.exec(String(text).trim());
  if (!match) return null;
  const [, sign, whole, fraction = "", exponent = "0"] = match;
  let units = BigInt(whole + fraction);
  let scale = fraction.length - Number(exponent);
  if (scale < 0) {
    units *= 10n ** BigInt(-scale);
    scale = 0;
  }
  return { units: sign === "-" ? -units : units, scale };
}

/** Return a + b of two decimal strings, exactly, as a decimal string. What is not a number counts as zero. */
export function addDecimals(a, b) {
  const left = parseDecimal(a) ?? { units: 0n, scale: 0 };
  const right = parseDecimal(b) ?? { units: 0n, scale: 0 };
  const scale = Math.max(left.scale, right.scale);
  const units = left.units * 10n ** BigInt(scale - left.scale) + right.units * 10n ** BigInt(scale - right.scale);
  return plain(units, scale);
}

export function negateDecimal(text) {
  const number = parseDecimal(text);
  return number ? plain(-number.units, number.scale) : "0";
}

/** Return -1, 0 or 1. */
export function signOf(text) {
  const number = parseDecimal(text);
  if (!number || number.units === 0n) return 0;
  return number.units < 0n ? -1 : 1;
}

function plain(units, scale) {
  const negative = units < 0n;
  const digits = (negative ? -units : units).toString().padStart(scale + 1, "0");
  const whole = digits.slice(0, digits.length - scale);
  const fraction = scale ? digits.slice(digits.length - scale) : "";
  return (negative ? "-" : "") + whole + (fraction ? "." + fraction : "");
}

function roundTo(number, scale) {
  if (number.scale <= scale) return number;
  const divisor = 10n ** BigInt(number.scale - scale);
  const absolute = number.units < 0n ? -number.units : number.units;
  const rounded = (absolute + divisor / 2n) / divisor;
  return { units: number.units < 0n ? -rounded : rounded, scale };
}

/**
 * Format a decimal string (or a number of detection) with at most `digits` significant digits, never cutting the
 * whole part, without trailing zeros, thousands apart: "50001.2500" -> "50,001.25".
 */
export function amount(value, digits = 8) {
  if (value === null || value === undefined || value === "") return "–";
  const number = parseDecimal(typeof value === "number" ? numberText(value) : value);
  if (!number) return "–";
  const absolute = (number.units < 0n ? -number.units : number.units).toString();
  if (absolute === "0") return "0";
  const leading = absolute.length - number.scale; // digits before the point; negative: zeros after it
  const rounded = roundTo(number, Math.max(0, digits - leading));
  let text = plain(rounded.units, rounded.scale);
  if (text.includes(".")) text = text.replace(/\.?0+$/, "");
  const [whole, fraction] = text.replace("-", "").split(".");
  if (/^0*$/.test(whole + (fraction ?? ""))) return "0";
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return (text.startsWith("-") ? MINUS : "") + grouped + (fraction ? "." + fraction : "");
}

function numberText(value) {
  return Number.isFinite(value) ? String(value) : "";
}

/** Like `amount`, with a plus sign when positive. */
export function signed(value, digits = 6) {
  const text = amount(value, digits);
  return text === "–" || text === "0" || text.startsWith(MINUS) ? text : "+" + text;
}

/** Money in a quote asset: 4 places after the point, 2 from a thousand on, more only for what would otherwise vanish. */
export function money(text) {
  const number = parseDecimal(text);
  if (!number) return "–";
  const large = roundTo(number, 0).units;
  const places = roundTo(number, large >= 1000n || large <= -1000n ? 2 : 4);
  return places.units === 0n ? signed(text, 2) : signed(plain(places.units, places.scale), 24);
}

/** Basis points with two places: "+3.20". */
export function bps(value) {
  const number = Number(value);
  if (!Number.isFinite(number)) return "–";
  const text = Math.abs(number).toFixed(2);
  if (Number(text) === 0) return "0.00";
  return (number < 0 ? MINUS : "+") + text;
}

/** Pad formatted numbers on the right so that their points stand under each other, without showing zeros. */
export function alignPoints(texts) {
  const places = texts.map((text) => (text.includes(".") ? text.length - text.indexOf(".") - 1 : 0));
  const most = Math.max(0, ...places);
  return texts.map((text, index) => {
    const missing = most - places[index];
    if (!missing || text === "–") return text;
    return text + (places[index] ? "" : PUNCTUATION_SPACE) + FIGURE_SPACE.repeat(missing);
  });
}

/** Seconds as an age: "0.4 s", "12 s", "3 min", "2 h", "4 d". */
export function age(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const s = Math.max(0, seconds);
  if (s < 9.95) return s.toFixed(1) + " s";
  if (s < 99.5) return Math.round(s) + " s";
  if (s < 5400) return Math.round(s / 60) + " min";
  if (s < 129_600) return Math.round(s / 3600) + " h";
  return Math.round(s / 86_400) + " d";
}

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

/** Unix seconds as local time of day. */
export function clockTime(at) {
  return Number.isFinite(at) ? CLOCK.format(new Date(at * 1000)) : "–";
}

/** "PARTIALLY_FILLED" -> "partially filled". */
export function words(state) {
  return String(state ?? "").toLowerCase().replaceAll("_", " ");
}

/** "okx-sim:BTC/USDT:USDT" -> {exchange, symbol, pair: "BTC/USDT", settle: "USDT"}. */
export function parseMarket(key) {
  const at = key.indexOf(":");
  const symbol = key.slice(at + 1);
  const [pair, settle = ""] = symbol.split(":");
  return { exchange: key.slice(0, Math.max(at, 0)), symbol, pair, settle };
}

/** Name a market where its pair is already known: its exchange, and what kind of contract it is if it is one. */
export function venueName(exchange, symbol) {
  return symbol.includes(":") ? `${exchange} perp` : exchange;
}

/** "1 trade", "2 trades". */
export function count(number, one, many = one + "s") {
  return `${number} ${number === 1 ? one : many}`;
}
