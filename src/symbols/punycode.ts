/** Punycode (RFC 3492), which Rust uses for identifiers outside ASCII, with `_` as delimiter. */

const BASE = 36;
const T_MIN = 1;
const T_MAX = 26;

/** The decoded identifier, or undefined when `text` is not of this form. */
export function decodePunycode(text: string): string | undefined {
  const delimiter = text.lastIndexOf('_');
  const characters = Array.from(text.slice(0, Math.max(delimiter, 0)), (one) => one.charCodeAt(0));
  let at = delimiter + 1;
  let bias = 72;
  let position = 0;
  let point = 128;
  let isFirst = true;
  while (at < text.length) {
    const start = position;
    let weight = 1;
    for (let k = BASE; ; k += BASE) {
      const digit = digit36(text.charCodeAt(at++));
      if (digit === undefined) return undefined;
      position += digit * weight;
      const threshold = Math.min(Math.max(k - bias, T_MIN), T_MAX);
      if (digit < threshold) break;
      weight *= BASE - threshold;
      if (!Number.isSafeInteger(position) || !Number.isSafeInteger(weight)) return undefined;
    }
    const length = characters.length + 1;
    bias = adapt(position - start, length, isFirst);
    isFirst = false;
    point += Math.floor(position / length);
    position %= length;
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return undefined;
    characters.splice(position++, 0, point);
  }
  return String.fromCodePoint(...characters);
}

function digit36(code: number): number | undefined {
  if (code >= 0x61 && code <= 0x7a) return code - 0x61;
  return code >= 0x30 && code <= 0x39 ? code - 0x30 + 26 : undefined;
}

/** RFC 3492, section 6.1. */
function adapt(delta: number, length: number, isFirst: boolean): number {
  let left = Math.floor(delta / (isFirst ? 700 : 2));
  left += Math.floor(left / length);
  let k = 0;
  while (left > ((BASE - T_MIN) * T_MAX) / 2) {
    left = Math.floor(left / (BASE - T_MIN));
    k += BASE;
  }
  return k + Math.floor(((BASE - T_MIN + 1) * left) / (left + 38));
}
