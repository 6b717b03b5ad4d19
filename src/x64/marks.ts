/** Bytes that are searched for in a text, in runs and in bits. */

/** Bytes that are looked for, as plain numbers of whatever counts them; `end` is behind the last. */
export interface Marked {
  readonly first: number;
  readonly end: number;
}

/** In ascending order, those that touch made one. */
export function join(marked: readonly Marked[]): Marked[] {
  const runs: { first: number; end: number }[] = [];
  const inside = marked
    .filter(({ first, end }) => first < end)
    .toSorted((one, other) => one.first - other.first);
  for (const { first, end } of inside) {
    const last = runs.at(-1);
    if (last === undefined || first > last.end) runs.push({ first, end });
    else last.end = Math.max(last.end, end);
  }
  return runs;
}

/** Which bytes are marked. */
export interface Marks {
  /** The first that is. */
  readonly lowest: number;
  /** Bytes from that one up to the end of the last. */
  readonly span: number;
  /** A bit for each of them. */
  readonly bits: Uint8Array;
}

/** The marks of joined runs. */
export function marksOf(runs: readonly Marked[]): Marks {
  const lowest = runs[0]?.first ?? 0;
  const span = (runs.at(-1)?.end ?? lowest) - lowest;
  const bits = new Uint8Array((span >> 3) + 1);
  for (const { first, end } of runs) {
    for (let at = first - lowest; at < end - lowest; at++) {
      bits[at >> 3] = (bits[at >> 3] ?? 0) | (1 << (at & 7));
    }
  }
  return { lowest, span, bits };
}
