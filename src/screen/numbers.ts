/** Numbers as people read and write them. Durations are in nanoseconds throughout. */

import { TraplineError } from '../base/errors.ts';

const NANOSECONDS: ReadonlyMap<string, number> = new Map([
  ['ns', 1],
  ['us', 1e3],
  ['µs', 1e3], // the micro sign, U+00B5
  ['μs', 1e3], // the Greek letter, U+03BC
  ['ms', 1e6],
  ['s', 1e9],
  ['m', 60e9],
  ['h', 3600e9],
]);

const DECIMAL_UNITS: readonly (readonly [unit: string, nanoseconds: number])[] = [
  ['ns', 1],
  ['µs', 1e3],
  ['ms', 1e6],
  ['s', 1e9],
];

/**
 * A duration for people: `840 ns`, `1.2 ms`, `12 s`, `1m 30s`, `2h 05m`. Two digits below ten, else
 * whole numbers below a minute. Negative ones get a sign.
 */
export function formatDuration(nanoseconds: number | bigint): string {
  const value = Number(nanoseconds);
  if (value < 0) return `-${formatDuration(-value)}`;
  // What would round to 60 s is a minute already.
  if (value >= 59.5e9) return formatMinutes(Math.round(value / 1e9));
  const [unit, size] = DECIMAL_UNITS.find((entry) => value / entry[1] < 999.5) ?? ['s', 1e9];
  return `${shorten(value / size)} ${unit}`;
}

/**
 * Reads a duration as it is written on a command line: `5s`, `200ms`, `1.5s`, `1m30s`; units from large
 * to small, each once.
 * @returns nanoseconds, an integer.
 * @throws TraplineError `usage`, with the position of what is wrong.
 */
export function parseDuration(text: string): number {
  const part = /(\d+(?:\.\d+)?)(ns|us|µs|μs|ms|s|m|h)/y;
  let total = 0;
  let last = Infinity;
  let at = 0;
  do {
    part.lastIndex = at;
    const [whole = '', amount = '', unit = ''] = part.exec(text) ?? [];
    const size = NANOSECONDS.get(unit);
    if (size === undefined) throw badDuration(text, at, 'is not a duration');
    if (size >= last) throw badDuration(text, at, 'has its units in the wrong order');
    total += Number(amount) * size;
    last = size;
    at += whole.length;
  } while (at < text.length);
  const rounded = Math.round(total);
  if (!Number.isSafeInteger(rounded)) throw badDuration(text, 0, 'is too long a duration');
  return rounded;
}

/** A count with commas between thousands: `1,234,567`. Fractions are kept as they are. */
export function formatCount(value: number | bigint): string {
  const [whole = '', fraction] = value.toString().split('.');
  if (!/^-?\d+$/.test(whole)) return value.toString();
  const grouped = whole.replaceAll(/\B(?=(?:\d{3})+$)/g, ',');
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

/**
 * A share of a whole: `formatPercent(1, 8)` is `12.5 %`. One digit after the point, two below one
 * percent; `<0.01 %` for what is more than nothing and less than that; `–` where the whole is nothing.
 */
export function formatPercent(part: number | bigint, whole: number | bigint = 1): string {
  const share = (Number(part) / Number(whole)) * 100;
  if (!Number.isFinite(share)) return '–';
  const size = Math.abs(share);
  if (size > 0 && size < 0.01) return share < 0 ? '>-0.01 %' : '<0.01 %';
  return `${share.toFixed(size < 0.995 && size > 0 ? 2 : 1)} %`;
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}

/** At most two digits that matter below ten, whole numbers above; no zeros behind the point. */
function shorten(amount: number): string {
  return amount < 9.95 ? String(Number(amount.toFixed(1))) : amount.toFixed(0);
}

function formatMinutes(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${pad(seconds % 60)}s`;
  return `${formatCount(Math.floor(minutes / 60))}h ${pad(minutes % 60)}m`;
}

function badDuration(text: string, column: number, what: string): TraplineError {
  return new TraplineError({
    code: 'usage',
    message: `'${text}' ${what}`,
    hint: 'write a number and its unit: 5s, 200ms, 1m30s (ns, us, ms, s, m, h)',
    position: { text, column },
  });
}
