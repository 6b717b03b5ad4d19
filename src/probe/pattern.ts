/** Globs over bytes, as the kernel's filters have them (lib/glob.c), in a form that compiles. */

/** The bytes that one place of a pattern takes: ranges, both ends included. */
export type ByteSet = readonly (readonly [low: number, high: number])[];

/**
 * A pattern as stretches of single places, with any run of bytes between two stretches. The first stands
 * at the text's start, the last at its end; one alone is the whole text.
 */
export type BytePattern = readonly (readonly ByteSet[])[];

const ANY: ByteSet = [[0, 255]];

/** A pattern that only this text fits. */
export function literalPattern(text: string): BytePattern {
  return [Array.from(Buffer.from(text), one)];
}

/**
 * Compiles a glob: `*` any run of bytes, `?` one byte, `[a-z]` and `[!a-z]` one of, or none of, a set; a
 * backslash takes the next byte as it is. An unclosed `[` is an ordinary character.
 */
export function globPattern(glob: string): BytePattern {
  const bytes = Buffer.from(glob);
  const stretches: ByteSet[][] = [[]];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    const last = stretches.at(-1);
    const set = byte === 0x5b ? byteSet(bytes, at) : undefined;
    if (byte === 0x2a) {
      // Several stars in a row are one.
      if (stretches.length === 1 || last?.length !== 0) stretches.push([]);
    } else if (set !== undefined) {
      last?.push(set.set);
      at = set.end;
    } else if (byte === 0x3f) {
      last?.push(ANY);
    } else {
      const escaped = byte === 0x5c && at + 1 < bytes.length ? bytes[++at] : byte;
      last?.push(one(escaped ?? 0));
    }
  }
  return stretches;
}

/**
 * Whether a text, up to its end, fits a pattern. Each stretch takes its first place behind the one before:
 * enough, as nothing but runs of any bytes stands between them.
 */
export function matchesPattern(pattern: BytePattern, text: Uint8Array): boolean {
  const [first = [], ...others] = pattern;
  const last = others.pop();
  if (!fitsAt(first, text, 0)) return false;
  if (last === undefined) return text.length === first.length;
  let at = first.length;
  for (const stretch of others) {
    while (!fitsAt(stretch, text, at)) if (++at + stretch.length > text.length) return false;
    at += stretch.length;
  }
  return text.length - last.length >= at && fitsAt(last, text, text.length - last.length);
}

function fitsAt(stretch: readonly ByteSet[], text: Uint8Array, at: number): boolean {
  if (at + stretch.length > text.length) return false;
  return stretch.every((set, index) => {
    const byte = text[at + index] ?? 0;
    return set.some(([low, high]) => byte >= low && byte <= high);
  });
}

function one(byte: number): ByteSet {
  return [[byte, byte]];
}

function byteSet(bytes: Uint8Array, start: number): { set: ByteSet; end: number } | undefined {
  let at = start + 1;
  const isNegated = bytes[at] === 0x21;
  if (isNegated) at++;
  // A ] that stands first belongs to the set.
  const end = bytes.indexOf(0x5d, at + 1);
  if (end < 0) return undefined;
  const taken = new Uint8Array(257);
  while (at < end) {
    const low = bytes[at] ?? 0;
    const isRange = bytes[at + 1] === 0x2d && at + 2 < end;
    const high = isRange ? (bytes[at + 2] ?? 0) : low;
    for (let byte = low; byte <= high; byte++) taken[byte] = 1;
    at += isRange ? 3 : 1;
  }
  const wanted = isNegated ? 0 : 1;
  // Behind the last byte: nobody's, so that a range that reaches it is closed.
  taken[256] = 1 - wanted;
  const set: [number, number][] = [];
  for (let byte = 0, from = -1; byte <= 256; byte++) {
    if (taken[byte] === wanted && from < 0) from = byte;
    if (taken[byte] !== wanted && from >= 0) {
      set.push([from, byte - 1]);
      from = -1;
    }
  }
  return { set, end };
}
