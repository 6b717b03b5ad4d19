/** The dynamic section (gABI, chapter 5, "Dynamic Section"), found as ld.so finds it. */

import type { ElfFile } from './elf.ts';
import { PT, SHT } from './elf-header.ts';
import { badElf, elfReader, sliceOf } from './malformed.ts';

/** What the dynamic section says. Tables are views into the file. */
export interface Dynamic {
  readonly needed: readonly string[];
  readonly soname: string | undefined;
  readonly runpath: string | undefined;
  readonly rpath: string | undefined;
  /** .dynsym, a whole number of entries; empty when the file has none. */
  readonly symbols: Uint8Array;
  /** .dynstr. */
  readonly strings: Uint8Array;
  /** DT_VERSYM: two bytes for each symbol. */
  readonly versionIndexes: Uint8Array | undefined;
  /** DT_VERDEF, from its first entry to the end of its segment, and the number of entries. */
  readonly versionDefinitions: CountedTable | undefined;
  /** DT_RELA. */
  readonly relocations: Uint8Array;
  /** DT_RELR: addresses of words that hold what is added to the load base, and bits for those behind them. */
  readonly packedRelocations: Uint8Array;
  /** DT_REL: those without addends, which this machine's linkers don't write. */
  readonly shortRelocations: Uint8Array;
  /** DT_JMPREL: those of the procedure linkage table. */
  readonly linkageRelocations: Uint8Array;
  /** Whether relocations may write into segments that are not writable (DT_TEXTREL, DF_TEXTREL). */
  readonly writesText: boolean;
}

/** A chained table: how many entries it says to have, and all bytes that they may lie in. */
export interface CountedTable {
  readonly bytes: Uint8Array;
  readonly count: number;
}

const DT = {
  null: 0,
  needed: 1,
  hash: 4,
  strtab: 5,
  symtab: 6,
  rela: 7,
  relaSize: 8,
  jumpRelocations: 23,
  jumpRelocationsSize: 2,
  strtabSize: 10,
  symbolEntrySize: 11,
  soname: 14,
  rpath: 15,
  runpath: 29,
  gnuHash: 0x6ffffef5,
  packedRelocations: 36,
  packedRelocationsSize: 35,
  rel: 17,
  relSize: 18,
  textRelocations: 22,
  flags: 30,
  versionIndexes: 0x6ffffff0,
  versionDefinitions: 0x6ffffffc,
  versionDefinitionCount: 0x6ffffffd,
} as const;

/** Of DT_FLAGS. */
const DF_TEXTREL = 4;

const SYMBOL_BYTES = 24;
/** Elf64_Rela, and where the high half of its r_info is: the symbol. */
const RELOCATION_BYTES = 24;
const RELOCATION_SYMBOL = 12;

interface Entries {
  readonly single: ReadonlyMap<number, number>;
  readonly needed: readonly number[];
}

/**
 * Reads PT_DYNAMIC and finds the tables it names.
 * @returns undefined when the file has none (static).
 * @throws TraplineError `bad-elf` when a table lies outside the file.
 */
export function readDynamic(elf: ElfFile): Dynamic | undefined {
  const header = elf.programHeaders.find(({ type }) => type === PT.dynamic);
  if (header === undefined || header.fileSize === 0) return undefined;
  const { single, needed } = readEntries(elf, elf.segmentBytes(header, 'dynamic section'));
  const table = (tag: number, sizeTag: number, what: string): Uint8Array =>
    sizedTable(elf, single, tag, sizeTag, what);
  const strings = table(DT.strtab, DT.strtabSize, 'dynamic strings');
  const text = (offset: number | undefined): string | undefined =>
    offset === undefined
      ? undefined
      : elfReader(strings, `${elf.name} dynamic strings`, offset).cstring();
  const relocations = table(DT.rela, DT.relaSize, 'relocations');
  const linkageRelocations = table(
    DT.jumpRelocations,
    DT.jumpRelocationsSize,
    'relocations of the linkage table',
  );
  const count = symbolCount(elf, single, [relocations, linkageRelocations]);
  return {
    needed: needed.map((offset) =>
      elfReader(strings, `${elf.name} dynamic strings`, offset).cstring(),
    ),
    soname: text(single.get(DT.soname)),
    runpath: text(single.get(DT.runpath)),
    rpath: text(single.get(DT.rpath)),
    symbols:
      count === 0
        ? new Uint8Array()
        : tableAt(elf, single.get(DT.symtab) ?? 0, count * SYMBOL_BYTES, 'dynamic symbols'),
    strings,
    versionIndexes: versionIndexes(elf, single, count),
    versionDefinitions: chained(elf, single, DT.versionDefinitions, DT.versionDefinitionCount),
    relocations,
    packedRelocations: table(DT.packedRelocations, DT.packedRelocationsSize, 'packed relocations'),
    shortRelocations: table(DT.rel, DT.relSize, 'relocations without addends'),
    linkageRelocations,
    writesText: single.has(DT.textRelocations) || ((single.get(DT.flags) ?? 0) & DF_TEXTREL) !== 0,
  };
}

function readEntries(elf: ElfFile, bytes: Uint8Array): Entries {
  const reader = elfReader(bytes, `${elf.name} dynamic section`);
  const single = new Map<number, number>();
  const needed: number[] = [];
  while (reader.remaining >= 16) {
    const tag = Number(reader.u64());
    const value = Number(reader.u64());
    if (tag === DT.null) break;
    // A value that no number holds exactly fits no file either: tableAt and cstring refuse it.
    if (tag === DT.needed) needed.push(value);
    else single.set(tag, value);
  }
  return { single, needed };
}

function versionIndexes(
  elf: ElfFile,
  single: ReadonlyMap<number, number>,
  count: number,
): Uint8Array | undefined {
  const address = single.get(DT.versionIndexes);
  if (address === undefined || count === 0) return undefined;
  return tableAt(elf, address, count * 2, 'symbol versions');
}

function sizedTable(
  elf: ElfFile,
  single: ReadonlyMap<number, number>,
  tag: number,
  sizeTag: number,
  what: string,
): Uint8Array {
  const address = single.get(tag);
  const size = single.get(sizeTag) ?? 0;
  if (address === undefined || size === 0) return new Uint8Array();
  return tableAt(elf, address, size, what);
}

function chained(
  elf: ElfFile,
  single: ReadonlyMap<number, number>,
  tag: number,
  countTag: number,
): CountedTable | undefined {
  const address = single.get(tag);
  const count = single.get(countTag) ?? 0;
  if (address === undefined || count === 0) return undefined;
  return { bytes: restOfSegment(elf, address, 'symbol versions'), count };
}

/** A table at an address of the file, by way of its PT_LOAD. */
function tableAt(elf: ElfFile, address: number, size: number, what: string): Uint8Array {
  const rest = restOfSegment(elf, address, what);
  if (size > rest.byteLength) {
    throw badElf(`${elf.name} ${what}`, `${size} bytes at address ${address} leave their segment`);
  }
  return rest.subarray(0, size);
}

function restOfSegment(elf: ElfFile, address: number, what: string): Uint8Array {
  const segment = elf.loads.segmentOf(address);
  if (segment === undefined) {
    throw badElf(`${elf.name} ${what}`, `address 0x${address.toString(16)} is not in the file`);
  }
  const skipped = address - segment.address;
  return sliceOf(
    elf.bytes,
    segment.offset + skipped,
    segment.fileSize - skipped,
    `${elf.name} ${what}`,
  );
}

/** No tag gives the number of symbols: ld.so never needs it, the hash tables imply it. */
function symbolCount(
  elf: ElfFile,
  single: ReadonlyMap<number, number>,
  relocations: readonly Uint8Array[],
): number {
  if (single.get(DT.symtab) === undefined) return 0;
  const entrySize = single.get(DT.symbolEntrySize) ?? SYMBOL_BYTES;
  if (entrySize !== SYMBOL_BYTES) {
    throw badElf(`${elf.name} dynamic section`, `a symbol has ${entrySize} bytes, not 24`);
  }
  const hash = single.get(DT.hash);
  if (hash !== undefined) {
    // gABI: nbucket, nchain; there is one chain entry for each symbol.
    const reader = elfReader(restOfSegment(elf, hash, 'hash table'), `${elf.name} hash table`, 4);
    return reader.u32();
  }
  const gnuHash = single.get(DT.gnuHash);
  const hashed = gnuHash === undefined ? undefined : gnuHashCount(elf, gnuHash);
  if (hashed !== undefined) return hashed;
  const section = elf.sections.find(({ type }) => type === SHT.dynsym);
  if (section !== undefined) return Math.floor(section.size / SYMBOL_BYTES);
  return Math.max(0, ...relocations.map(symbolsNamed));
}

/** The symbol after the last one that relocations name (Elf64_Rela, gABI, chapter 4, "Relocation"). */
function symbolsNamed(relocations: Uint8Array): number {
  const view = new DataView(relocations.buffer, relocations.byteOffset, relocations.byteLength);
  let count = 0;
  for (let at = 0; at + RELOCATION_BYTES <= relocations.byteLength; at += RELOCATION_BYTES) {
    count = Math.max(count, view.getUint32(at + RELOCATION_SYMBOL, true) + 1);
  }
  return count;
}

/**
 * The symbol after the last one that the GNU hash table knows: the chain of the bucket that begins
 * highest runs to the end of the table, where the lowest bit of a hash is set.
 * @returns undefined where it knows none: ld says then that those it knows begin at 1, however many it does not know
 */
function gnuHashCount(elf: ElfFile, address: number): number | undefined {
  const source = `${elf.name} GNU hash table`;
  const reader = elfReader(restOfSegment(elf, address, 'GNU hash table'), source);
  const buckets = reader.u32();
  const firstSymbol = reader.u32();
  const bloomWords = reader.u32();
  reader.skip(4 + bloomWords * 8); // the shift and the words of the Bloom filter, which only lookups use
  const table = reader.take(buckets * 4);
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  let highest = 0;
  for (let at = 0; at < table.byteLength; at += 4) {
    highest = Math.max(highest, view.getUint32(at, true));
  }
  if (highest < firstSymbol) return undefined;
  reader.skip((highest - firstSymbol) * 4); // to the last chain: the hashes lie in order of symbols
  let count = highest + 1;
  while ((reader.u32() & 1) === 0) count++;
  return count;
}
