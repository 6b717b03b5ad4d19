/** Data that symbols tell of in the executable parts of a file: constants that assembly keeps beside its code. */

import { lowerBound } from '../base/sorted.ts';
import type { ElfFile } from './elf.ts';
import { SHN_UNDEF } from './elf-header.ts';
import { STT } from './symbol-rows.ts';
import { symbolSources } from './symbol-sources.ts';

/** Where such data lie, in file offsets. */
export interface CodeObjects {
  /** In ascending order. */
  readonly starts: Float64Array;
  /** The largest end of all up to and with each. */
  readonly reach: Float64Array;
}

/**
 * The objects in executable segments, by the file's own tables and those that were opened already.
 * @throws TraplineError `bad-elf`.
 */
export function objectsInCode(elf: ElfFile): CodeObjects {
  const { own, opened } = symbolSources(elf);
  const found: { readonly start: number; readonly end: number }[] = [];
  for (const rows of [own, ...opened].flatMap(({ tables }) => tables)) {
    for (let row = 0; row < rows.count; row++) {
      if (rows.type(row) !== STT.object || rows.sectionIndex(row) === SHN_UNDEF) continue;
      const segment = elf.loads.segmentOf(rows.address(row));
      if (segment?.executable !== true) continue;
      const start = segment.offset + (rows.address(row) - segment.address);
      // One that tells no size has a byte at least.
      found.push({ start, end: start + Math.max(1, rows.size(row)) });
    }
  }
  found.sort((one, other) => one.start - other.start);
  let farthest = 0;
  return {
    starts: Float64Array.from(found, ({ start }) => start),
    reach: Float64Array.from(found, ({ end }) => (farthest = Math.max(farthest, end))),
  };
}

/** The first of some bytes of the file that lies in an object; undefined where none does. */
export function firstInObject(
  { starts, reach }: CodeObjects,
  start: number,
  end: number,
): number | undefined {
  const next = lowerBound(starts, start);
  if ((reach[next - 1] ?? 0) > start) return start;
  const first = starts[next] ?? Infinity;
  return first < end ? first : undefined;
}
