/** The entries of jump tables: what a file holds, compared as plain numbers, since there are many. */

import type { Address } from '../base/brand.ts';

/** Addresses from `start` up to `end`, which is not meant. */
export interface Bounds {
  readonly start: Address;
  readonly end: Address;
}

/** What has to be known of the file, all in its own virtual addresses. */
export interface TableImage {
  /** `length` bytes at `at`, relocated where they hold addresses; undefined where nothing is mapped. */
  readonly read: (at: bigint, length: number) => Uint8Array | undefined;
  /** The executable bytes: everything that a jump can reach. */
  readonly text: Bounds;
  /** If given, targets outside of it may be left out: who asks about a few bytes need not have them all. */
  readonly wanted?: Bounds;
  /** Kept by who asks more than once of the same file. */
  readonly summaries?: WordSummaries;
}

/**
 * The smallest and the largest 32-bit word of each chunk of a file, by the chunk's address; null where it is
 * not in one piece. Thousands of tables lie one behind the other, and each is read on into all the next ones:
 * most of these chunks hold nothing that is wanted, which two numbers tell.
 */
export type WordSummaries = Map<number, { readonly least: number; readonly most: number } | null>;

/** Where entries lie, and what they are added to. */
export interface Table {
  readonly at: bigint;
  readonly base: bigint;
}

/** More than any compiler makes: a table that does not end by then is none. */
const MAX_ENTRIES = 1 << 16;
/** Bytes of a table that are asked for at a time, up to a multiple of it. */
const CHUNK_BYTES = 4096;

/**
 * The entries of all tables given; undefined if there are none; the reason if one does not end. Tables lie
 * one behind the other in a file, and each is read on into the next ones: entries are compared as plain
 * numbers, relative to the text, and a chunk of them is read at a time.
 * @param entryBytes 4: offsets from the table's base; 8: addresses
 */
export function readTables(
  tables: readonly Table[],
  image: TableImage,
  entryBytes: 4 | 8,
): bigint[] | string | undefined {
  const { start, end } = image.text;
  const textBytes = Number(end - start);
  const wanted = image.wanted ?? image.text;
  const wantedStart = Number(wanted.start - start);
  const wantedEnd = Number(wanted.end - start);
  const found = new Set<number>();
  let isAny = false;
  for (const { at, base } of tables) {
    // What overflows 64 bits is far from the text with and without it.
    const distance = Number(BigInt.asIntN(64, base - start));
    let read = 0;
    let isOpen = true;
    while (isOpen) {
      const from = at + BigInt(read * entryBytes);
      const untilNext = CHUNK_BYTES - Number(from % BigInt(CHUNK_BYTES));
      const whole =
        entryBytes === 4 && untilNext === CHUNK_BYTES ? summaryOf(image, from) : undefined;
      if (whole !== undefined) {
        const [low, high] = [distance + whole.least, distance + whole.most];
        if (low >= 0 && high < textBytes && (high < wantedStart || low >= wantedEnd)) {
          isAny = true;
          read += CHUNK_BYTES / entryBytes;
          if (read > MAX_ENTRIES) return 'a jump table does not end';
          continue;
        }
      }
      const chunk = readChunk(image, from, untilNext, entryBytes) ?? image.read(from, entryBytes);
      if (chunk === undefined) break;
      const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      for (let place = 0; place < chunk.byteLength; place += entryBytes) {
        const target =
          entryBytes === 4
            ? distance + view.getInt32(place, true)
            : Number(BigInt.asIntN(64, view.getBigUint64(place, true) - start));
        isOpen = target >= 0 && target < textBytes;
        if (!isOpen) break;
        if (read++ >= MAX_ENTRIES) return 'a jump table does not end';
        isAny = true;
        if (target >= wantedStart && target < wantedEnd) found.add(target);
      }
    }
  }
  return isAny ? Array.from(found, (target) => start + BigInt(target)) : undefined;
}

/** The extremes of the chunk at `at`, a multiple of its length; undefined if it is not in one piece. */
function summaryOf(
  image: TableImage,
  at: bigint,
): { readonly least: number; readonly most: number } | undefined {
  const { summaries } = image;
  if (summaries === undefined) return undefined;
  const known = summaries.get(Number(at));
  if (known !== undefined) return known ?? undefined;
  const chunk = readChunk(image, at, CHUNK_BYTES, 4);
  if (chunk === undefined) {
    summaries.set(Number(at), null);
    return undefined;
  }
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  let least = Infinity;
  let most = -Infinity;
  for (let place = 0; place < CHUNK_BYTES; place += 4) {
    const word = view.getInt32(place, true);
    if (word < least) least = word;
    if (word > most) most = word;
  }
  const summary = { least, most };
  summaries.set(Number(at), summary);
  return summary;
}

/** Many entries at once, if all of them lie in one piece of the file. */
function readChunk(
  image: TableImage,
  at: bigint,
  bytes: number,
  entryBytes: number,
): Uint8Array | undefined {
  const whole = bytes - (bytes % entryBytes);
  if (whole <= entryBytes) return undefined;
  const behindFirst = whole - entryBytes;
  const last = image.read(at + BigInt(behindFirst), entryBytes);
  const chunk = last === undefined ? undefined : image.read(at, whole);
  // A chunk over the end of a segment would go on with what follows in the file, not in memory.
  const isOne =
    last?.buffer === chunk?.buffer && last?.byteOffset === (chunk?.byteOffset ?? 0) + behindFirst;
  return isOne ? chunk : undefined;
}
