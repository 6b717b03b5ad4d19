/**
 * The conservative scan: which words on the stacks of stopped tasks could be addresses in given
 * ranges. Whatever looks like one counts. It sees the stack that each task is on, to the end of its
 * mapping; not stacks of fibers that are switched out, nor a stack left for a signal stack in another
 * mapping, whose address a signal frame holds.
 */

import { address, type Address, type Tid } from '../base/brand.ts';
import { readRanges } from '../sys/memory.ts';
import { findMapping, type MemoryMapping } from './maps.ts';
import { type AddressRange } from './free-space.ts';
import { type StoppedProcess } from './stop.ts';

/** The area below rsp that a function without calls may use (System V psABI, 3.2.2). */
const RED_ZONE = 128n;
/** Of one stack, what is read at most: deeper ones are scanned up to here from rsp. */
const MAX_STACK_BYTES = 64 << 20;
const CHUNK_BYTES = 1 << 20;

/** A stack word that could be an address in one of the ranges. */
export interface FoundWord {
  readonly tid: Tid;
  /** Where it lies. */
  readonly stackAddress: Address;
  readonly value: Address;
}

/**
 * Finds every aligned stack word that lies in one of the ranges.
 * @param below how many bytes below rsp count too: the red zone, unless told
 */
export function findWords(
  stopped: StoppedProcess,
  ranges: readonly AddressRange[],
  maps: readonly MemoryMapping[] = stopped.maps(),
  below: bigint = RED_ZONE,
): FoundWord[] {
  const filter = new RangeFilter(ranges);
  const found: FoundWord[] = [];
  let chunk = new Uint32Array(0);
  for (const task of stopped.tasks) {
    const rsp = address(task.registers.get('rsp'));
    const mapping = findMapping(maps, rsp);
    if (mapping === undefined) continue;
    const bottom = (rsp - below) & ~7n;
    let at = bottom > mapping.start ? bottom : mapping.start;
    const limit = at + BigInt(MAX_STACK_BYTES);
    const end = mapping.end < limit ? mapping.end : limit;
    while (at < end) {
      const length = Math.min(CHUNK_BYTES, Number(end - at));
      if (chunk.byteLength < length) chunk = new Uint32Array(Math.ceil(length / 8) * 2);
      const bytes = new Uint8Array(chunk.buffer, 0, length);
      const count = readRanges(task.tid, [{ address: address(at), length }], bytes);
      for (const index of filter.matches(chunk, count >> 3)) {
        found.push({
          tid: task.tid,
          stackAddress: address(at + BigInt(index * 8)),
          value: address(BigInt(wordAt(chunk, index))),
        });
      }
      if (count < length) break;
      at += BigInt(count);
    }
  }
  return found;
}

/** A user-space address fits a double exactly: it is below 2^47. */
function wordAt(words: Uint32Array, index: number): number {
  return (words[2 * index + 1] ?? 0) * 0x1_0000_0000 + (words[2 * index] ?? 0);
}

/** Compares words with sorted ranges, without a bigint for each. */
export class RangeFilter {
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;
  readonly #lowest: number;
  readonly #highest: number;

  constructor(ranges: readonly AddressRange[]) {
    const sorted = ranges.toSorted((a, b) => (a.start < b.start ? -1 : Number(a.start > b.start)));
    this.#starts = Float64Array.from(sorted, (range) => Number(range.start));
    // Ranges may overlap: an end is the largest so far, so that a search finds one candidate.
    let largest = 0;
    this.#ends = Float64Array.from(sorted, (range) => {
      largest = Math.max(largest, Number(range.end));
      return largest;
    });
    this.#lowest = Math.floor((this.#starts[0] ?? 0) / 0x1_0000_0000);
    this.#highest = Math.floor(largest / 0x1_0000_0000);
  }

  /** The indexes of the 64-bit words, of the first `count`, that lie in a range. */
  matches(words: Uint32Array, count: number): number[] {
    const found: number[] = [];
    for (let index = 0; index < count; index++) {
      const high = words[2 * index + 1] ?? 0;
      if (high < this.#lowest || high > this.#highest) continue;
      if (this.#holds(wordAt(words, index))) found.push(index);
    }
    return found;
  }

  #holds(value: number): boolean {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle] ?? 0) <= value) low = middle + 1;
      else high = middle;
    }
    return low > 0 && value < (this.#ends[low - 1] ?? 0);
  }
}
