/**
 * Exception landing pads: places inside functions that the unwinder jumps to. They stand in the
 * exception table (.gcc_except_table) of C++ and Rust code (Itanium C++ ABI, "Exception Handling
 * Tables"; gcc, unwind-pe.h and eh_personality.cc).
 */

import { fileOffset, type FileOffset } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import type { ElfFile } from './elf.ts';
import { elfReader } from './malformed.ts';
import { OMIT, readLength, readPointer } from './pointer-encoding.ts';
import { unwindTables, type FrameDescription } from './unwind.ts';

/** Landing pads, or why they can't be told: then any place may be one. */
export type LandingPads =
  | { readonly kind: 'known'; readonly pads: readonly FileOffset[] }
  | { readonly kind: 'unknown'; readonly reason: string };

/**
 * The landing pads that the exception table of the function around `functionStart` names, by
 * offset. They may lie in another part of the function (`.cold`), which has its own table as well.
 */
export function landingPads(elf: ElfFile, functionStart: FileOffset): LandingPads {
  return orUnknown(() => {
    const address = elf.loads.addressOf(functionStart);
    const tables = unwindTables(elf);
    const frame = address < 0 ? undefined : tables.find(address);
    if (frame !== undefined) return collect(elf, [frame]);
    if (tables.isComplete) return { kind: 'known', pads: [] };
    return { kind: 'unknown', reason: `${elf.name} has no unwind tables that can be found` };
  });
}

/** The landing pads of the whole file, by offset. */
export function allLandingPads(elf: ElfFile): LandingPads {
  return orUnknown(() => {
    const tables = unwindTables(elf);
    if (tables.isComplete) return collect(elf, tables.all());
    return { kind: 'unknown', reason: `${elf.name} has no unwind tables that can be found` };
  });
}

/** Bytes of a function, as addresses, whose exceptions land in it. */
export interface CaughtRange {
  readonly start: number;
  readonly end: number;
}

/** The ranges of the function around `functionStart` whose exceptions it catches; none where its table can't be read. */
export function caughtRanges(elf: ElfFile, functionStart: FileOffset): CaughtRange[] {
  try {
    const address = elf.loads.addressOf(functionStart);
    const frame = address < 0 ? undefined : unwindTables(elf).find(address);
    if (frame?.languageData === undefined) return [];
    const sites = sitesOf(elf, frame, frame.languageData);
    return sites.filter(({ pad }) => pad !== undefined);
  } catch (error) {
    // Who asks for landing pads is told: nothing is probed there then.
    if (!(error instanceof TraplineError) || error.code !== 'bad-elf') throw error;
    return [];
  }
}

/** A damaged table is an answer here, "unknown", and not a reason to give the file up. */
function orUnknown(read: () => LandingPads): LandingPads {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof TraplineError) || error.code !== 'bad-elf') throw error;
    return { kind: 'unknown', reason: error.message };
  }
}

function collect(elf: ElfFile, frames: readonly FrameDescription[]): LandingPads {
  const pads = new Set<number>();
  for (const frame of frames) {
    if (frame.languageDataUnknown) {
      return { kind: 'unknown', reason: `${elf.name}: an exception table is found at run time` };
    }
    if (frame.languageData === undefined) continue;
    for (const { pad: address } of sitesOf(elf, frame, frame.languageData)) {
      if (address === undefined) continue;
      const offset = elf.loads.offsetOf(address);
      if (offset < 0) {
        const reason = `${elf.name}: a landing pad at 0x${address.toString(16)} is not in the file`;
        return { kind: 'unknown', reason };
      }
      pads.add(offset);
    }
  }
  return { kind: 'known', pads: [...pads].sort((a, b) => a - b).map((pad) => fileOffset(pad)) };
}

/** A row of an exception table: what is thrown in these bytes lands at an address, or passes. */
interface CallSite extends CaughtRange {
  readonly pad: number | undefined;
}

function sitesOf(elf: ElfFile, frame: FrameDescription, table: number): CallSite[] {
  const source = `${elf.name} exception table at 0x${table.toString(16)}`;
  const segment = elf.loads.segmentOf(table);
  const bytes =
    segment === undefined
      ? new Uint8Array()
      : elf.bytes.subarray(
          segment.offset + (table - segment.address),
          segment.offset + segment.fileSize,
        );
  const reader = elfReader(bytes, source);
  const bases = { start: table, data: undefined, function: frame.start };
  const startEncoding = reader.u8();
  const padBase =
    startEncoding === OMIT ? frame.start : readPointer(reader, startEncoding, bases).value;
  if (reader.u8() !== OMIT) reader.uleb();
  const siteEncoding = reader.u8();
  const end = Number(reader.uleb()) + reader.offset;
  const sites: CallSite[] = [];
  while (reader.offset < end) {
    const start = frame.start + readLength(reader, siteEncoding);
    const length = readLength(reader, siteEncoding);
    const pad = readLength(reader, siteEncoding);
    reader.uleb();
    sites.push({ start, end: start + length, pad: pad === 0 ? undefined : padBase + pad });
  }
  return sites;
}
