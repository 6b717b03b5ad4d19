/**
 * Reads that one call asks for. The kernel takes a third of a microsecond for each stretch of memory that it is
 * asked for: what lies close together behind one pointer, as the members of a structure do, is one stretch for it,
 * dealt out to where each part belongs.
 */

import { printFetch } from '../../probe/fetch.ts';
import { pointerOf, type Read } from './read.ts';

/** sizeof(struct iovec). */
const IOVEC_BYTES = 16;
/** Reads of one call: each has two iovecs of the memory's at most, or a gap of ours; UIO_MAXIOV is 1024. */
const READS_PER_CALL = 500;
/** Bytes between two reads that are read with them rather than left out. */
export const GAP_BYTES = 256;

/** Memory side by side that integers are read from. */
export interface Span {
  /** Of its iovec, from the record's start. */
  readonly remote: number;
  readonly bytes: number;
  /** In the order of their addresses. The first tells where it begins. */
  readonly parts: readonly { readonly read: Read; readonly distance: number }[];
}

/** Bytes that nobody asked for, between two reads. */
export interface Gap {
  readonly local: number;
  readonly bytes: number;
}

/** One call. Its iovecs lie side by side, from the first on. */
export interface ReadGroup {
  readonly spans: readonly Span[];
  readonly gaps: readonly Gap[];
  /** With two iovecs of the memory's each. Last: a short one ends the call for what comes behind. */
  readonly partial: readonly { readonly read: Read; readonly remote: number }[];
  readonly firstLocal: number;
  readonly locals: number;
  readonly firstRemote: number;
  readonly remotes: number;
  /** What arrives if all of it can be read. */
  readonly bytes: number;
}

/**
 * Groups reads by rounds, and gives each its place in the working area.
 * @param take gives so many bytes of the working area.
 */
export function groupReads(reads: Iterable<Read>, take: (bytes: number) => number): ReadGroup[] {
  const rounds: Read[][] = [];
  for (const read of reads) (rounds[roundOf(read)] ??= []).push(read);
  // Not every round needs to be there: those of the filter come in calls of their own.
  return rounds.flatMap((round) => chunks(round)).map((chunk) => makeGroup(chunk, take));
}

function makeGroup(reads: readonly Read[], take: (bytes: number) => number): ReadGroup {
  const runs = joined(reads.filter(({ isPartial }) => !isPartial));
  const partial = reads.filter(({ isPartial }) => isPartial);
  const gaps: Gap[] = [];
  let locals = 0;
  const takeLocal = (): number => {
    locals++;
    return take(IOVEC_BYTES);
  };
  const places: number[] = [];
  for (const run of runs) {
    let end = 0;
    for (const { read, distance } of run) {
      if (distance > end) {
        places.push(takeLocal());
        gaps.push({ local: places.at(-1) ?? 0, bytes: distance - end });
      }
      read.local = takeLocal();
      places.push(read.local);
      end = distance + read.bytes;
    }
  }
  for (const read of partial) places.push((read.local = takeLocal()));
  const spans = runs.map((parts) => ({ parts, bytes: bytesOf(parts), remote: take(IOVEC_BYTES) }));
  const placed = partial.map((read) => ({ read, remote: take(2 * IOVEC_BYTES) }));
  return {
    spans,
    gaps,
    partial: placed,
    firstLocal: places[0] ?? 0,
    locals,
    firstRemote: spans[0]?.remote ?? placed[0]?.remote ?? 0,
    remotes: spans.length + placed.length * 2,
    bytes: [...spans, ...partial].reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

/** Integers in runs: behind the same pointer, none before or within the one before it, no large gap. */
function joined(reads: readonly Read[]): Span['parts'][] {
  const bases = new Map<string, Read[]>();
  for (const read of reads) {
    const key = baseKey(read);
    bases.set(key, [...(bases.get(key) ?? []), read]);
  }
  return [...bases.values()].flatMap((same) => {
    const sorted = same.toSorted((a, b) =>
      a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : 0,
    );
    const runs: { read: Read; distance: number }[][] = [];
    for (const read of sorted) {
      const run = runs.find((each) => follows(each, read));
      const first = run?.[0]?.read;
      if (run === undefined || first === undefined) runs.push([{ read, distance: 0 }]);
      else run.push({ read, distance: Number(read.offset - first.offset) });
    }
    return runs;
  });
}

function follows(run: Span['parts'], { offset }: Read): boolean {
  const last = run.at(-1)?.read;
  if (last === undefined) return false;
  const gap = offset - last.offset - BigInt(last.bytes);
  return gap >= 0n && gap <= BigInt(GAP_BYTES);
}

function bytesOf(parts: Span['parts']): number {
  const last = parts.at(-1);
  return last === undefined ? 0 : last.distance + last.read.bytes;
}

function baseKey(read: Read): string {
  const { base } = read;
  return 'fetch' in base ? printFetch(base.fetch) : `at ${base.pointer.at}`;
}

function roundOf(read: Read): number {
  const pointer = pointerOf(read);
  return pointer === undefined ? 0 : 1 + roundOf(pointer.read);
}

function chunks(reads: readonly Read[]): Read[][] {
  const parts: Read[][] = [];
  for (let at = 0; at < reads.length; at += READS_PER_CALL) {
    parts.push(reads.slice(at, at + READS_PER_CALL));
  }
  return parts;
}
