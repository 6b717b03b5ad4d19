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
  /** What the linker put there together, which no table leaves; undefined where that is not known. */
  readonly sectionAt?: (at: number) => { readonly start: number; readonly end: number } | undefined;
  /** Kept by who asks more than once of the same file. */
  readonly summaries?: WordSummaries;
}

/**
 * The smallest and the largest 32-bit word of each chunk of a file, by the chunk's address; null where it is
 * not in one piece. Thousands of tables lie one behind the other, and each is read on into all the next ones:
 * most of these chunks hold nothing that is wanted, which two numbers tell.
 */
export type WordSummaries = Map<number, { readonly least: number; readonly most: number } | null>;

/** Bytes of an entry. 4: offsets from the table's base; 8: addresses. */
export type EntryBytes = 4 | 8;

/** Where entries may lie, and what they are added to. */
export interface PossibleTable {
  readonly at: bigint;
  readonly base: bigint;
}

/** Where entries lie, in plain numbers. */
interface Entries {
  readonly at: number;
  /** From the text's start to what they are added to. */
  readonly distance: number;
  readonly entryBytes: EntryBytes;
}

/**
 * A stretch of the file that has a table in it. Where that ends is not told by its entries: one that is never used may lead
 * anywhere. What is no entry of it leads into a certain function by chance only.
 */
export interface JumpTable extends Entries {
  /** How many entries are read, as far as the file has them. */
  readonly count: number;
  /** How many of them lie before the place that code names. */
  readonly before: number;
}

/** More than any compiler makes: a table that does not end by then is none. */
const MAX_ENTRIES = 1 << 16;
/** Code may name the entry for zero of an index that is less, too: of a signed character, as far as this. */
const ENTRIES_BEFORE = 128;
/** Bytes of a table that are asked for at a time, up to a multiple of it. */
const CHUNK_BYTES = 4096;
const HALF = 0x1_0000_0000;

/**
 * Finds tables: where one of the places has an entry that leads into the text, each of them may be one, from
 * some way before it on.
 * @returns none where no place has; the reason where one has too many
 */
export function findTables(
  places: readonly PossibleTable[],
  image: TableImage,
  entryBytes: EntryBytes,
): JumpTable[] | string {
  const { start, end } = image.text;
  const textBytes = Number(end - start);
  const isText = (target: number): boolean => target >= 0 && target < textBytes;
  const possible: JumpTable[] = [];
  let isFound = false;
  for (const { at: place, base } of places) {
    const at = Number(place);
    // A file maps nothing so high.
    if (!Number.isSafeInteger(at)) continue;
    // What overflows 64 bits is far from the text with and without it.
    const distance = entryBytes === 4 ? Number(BigInt.asIntN(64, base - start)) : -Number(start);
    const leading = walk(image, { at, distance, entryBytes }, MAX_ENTRIES + 1, {
      skips: (least, most) => isText(least) && isText(most),
      goesOn: isText,
    });
    if (leading > MAX_ENTRIES) return 'a jump table does not end';
    isFound ||= leading > 0;
    possible.push({ distance, ...extentAround(image, at, entryBytes) });
  }
  return isFound ? possible : [];
}

/** The entries around a place that can be read and may belong to the same table. */
function extentAround(
  image: TableImage,
  at: number,
  entryBytes: EntryBytes,
): Omit<JumpTable, 'distance'> {
  const section = image.sectionAt?.(at);
  const least = Math.max(section?.start ?? 0, at - ENTRIES_BEFORE * entryBytes);
  let first = at;
  for (let before = at - entryBytes; before >= least; before -= entryBytes) {
    if (image.read(BigInt(before), entryBytes) === undefined) break;
    first = before;
  }
  const end = Math.min(section?.end ?? Infinity, at + MAX_ENTRIES * entryBytes);
  const count = Math.floor((end - first) / entryBytes);
  return { at: first, entryBytes, count, before: (at - first) / entryBytes };
}

/** Where a table's entries lead within `wanted`. */
export function entriesWithin(table: JumpTable, image: TableImage, wanted: Bounds): bigint[] {
  const { start } = image.text;
  const [first, end] = [Number(wanted.start - start), Number(wanted.end - start)];
  const found = new Set<number>();
  walk(image, table, table.count, {
    skips: (least, most) => most < first || least >= end,
    goesOn: (target) => {
      if (target >= first && target < end) found.add(target);
      return true;
    },
  });
  return Array.from(found, (target) => start + BigInt(target));
}

/**
 * The same without most of what leads there by chance: from the place that code names on, and back from it, each up to the first
 * entry that leads to where no jump can. Those that lead elsewhere are passed over: one that is never used may.
 * @param isPossible whether a jump can lead to an address within `wanted`
 */
export function likelyEntries(
  table: JumpTable,
  image: TableImage,
  wanted: Bounds,
  isPossible: (target: bigint) => boolean,
): bigint[] {
  const { at, entryBytes, count, before } = table;
  const { start } = image.text;
  const [first, end] = [Number(wanted.start - start), Number(wanted.end - start)];
  const found: bigint[] = [];
  const take = (target: number): boolean => {
    if (target < first || target >= end) return true;
    const address = start + BigInt(target);
    if (!isPossible(address)) return false;
    found.push(address);
    return true;
  };
  const skips = (least: number, most: number): boolean => most < first || least >= end;
  walk(image, { ...table, at: at + before * entryBytes }, count - before, { skips, goesOn: take });
  const earlier: number[] = [];
  const goesOn = (target: number): boolean => earlier.push(target) > 0;
  walk(image, table, before, { skips: () => false, goesOn });
  earlier.toReversed().every((target) => take(target));
  return found;
}

/** What is done on a walk over the entries of a table. */
interface Walk {
  /** Whether a chunk whose entries all lead between two places need not be looked at. */
  readonly skips: (least: number, most: number) => boolean;
  /** Shown where each other entry leads, from the text's start; whether to go on behind it. */
  readonly goesOn: (target: number) => boolean;
}

/**
 * Walks over the first entries of a table. Tables lie one behind the other in a file, and each is read on into the next ones:
 * entries are compared as plain numbers, and a chunk of them is read at a time.
 * @returns how many entries were passed
 */
function walk(
  image: TableImage,
  { at, distance, entryBytes }: Entries,
  most: number,
  { skips, goesOn }: Walk,
): number {
  let read = 0;
  while (read < most) {
    const from = at + read * entryBytes;
    const untilNext = CHUNK_BYTES - (from % CHUNK_BYTES);
    const whole =
      entryBytes === 4 && untilNext === CHUNK_BYTES ? summaryOf(image, from) : undefined;
    if (whole !== undefined && skips(distance + whole.least, distance + whole.most)) {
      read += CHUNK_BYTES / entryBytes;
      continue;
    }
    const chunk =
      readChunk(image, from, untilNext, entryBytes) ?? image.read(BigInt(from), entryBytes);
    if (chunk === undefined) return read;
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    for (let place = 0; place < chunk.byteLength && read < most; place += entryBytes) {
      // Two halves make an address without a bigint; what is rounded is far from the text.
      const word =
        entryBytes === 4
          ? view.getInt32(place, true)
          : view.getUint32(place + 4, true) * HALF + view.getUint32(place, true);
      if (!goesOn(distance + word)) return read;
      read++;
    }
  }
  return read;
}

/** The extremes of the chunk at `at`, a multiple of its length; undefined if it is not in one piece. */
function summaryOf(
  image: TableImage,
  at: number,
): { readonly least: number; readonly most: number } | undefined {
  const { summaries } = image;
  if (summaries === undefined) return undefined;
  const known = summaries.get(at);
  if (known !== undefined) return known ?? undefined;
  const chunk = readChunk(image, at, CHUNK_BYTES, 4);
  if (chunk === undefined) {
    summaries.set(at, null);
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
  summaries.set(at, summary);
  return summary;
}

/** Many entries at once, if all of them lie in one piece of the file. */
function readChunk(
  image: TableImage,
  from: number,
  bytes: number,
  entryBytes: number,
): Uint8Array | undefined {
  const at = BigInt(from);
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
