/** ELF files built by hand, byte by byte, for what no compiler writes. */

import { ByteWriter } from '../../../src/base/bytes.ts';

/** One section of a tiny file. Addresses are file offsets plus {@link BASE}. */
export interface TinySection {
  readonly name: string;
  readonly type: number;
  readonly flags?: number;
  readonly bytes: Uint8Array;
  readonly link?: number;
  readonly entrySize?: number;
  /** What the header says instead of the truth. */
  readonly claimedSize?: bigint;
}

/** Where a tiny file is linked. */
export const BASE = 0x40_0000;
/** File offset of the first section's bytes. */
export const FIRST = 0x200;

/** One dynamic entry. */
export type TinyDynamic = readonly (readonly [tag: number, value: bigint])[];

/**
 * A fixed-address program: one executable PT_LOAD over the whole file, PT_DYNAMIC if there are
 * entries, PT_NOTE if there is a note, then the sections one after another at multiples of 16.
 */
export function tinyElf(
  sections: readonly TinySection[],
  options: { dynamic?: TinyDynamic; note?: Uint8Array } = {},
): Uint8Array {
  const body = new ByteWriter();
  const pad = (to: number): void => {
    body.raw(new Uint8Array(to - body.length));
  };
  pad(FIRST);
  const offsets: number[] = [];
  const put = (bytes: Uint8Array): number => {
    pad(Math.ceil(body.length / 16) * 16);
    const at = body.length;
    body.raw(bytes);
    return at;
  };
  for (const { bytes } of sections) offsets.push(put(bytes));
  const dynamic = new ByteWriter();
  for (const [tag, value] of options.dynamic ?? []) dynamic.u64(BigInt(tag)).u64(value);
  dynamic.u64(0n).u64(0n);
  const dynamicAt = put(dynamic.finish());
  const noteAt = put(options.note ?? new Uint8Array());
  const names = new TextEncoder().encode(
    `\0${sections.map(({ name }) => `${name}\0`).join('')}.x\0`,
  );
  const namesAt = put(names);
  const headersAt = put(new Uint8Array());
  writeSectionHeaders(body, sections, offsets, { namesAt, size: names.length });
  const file = body.finish();
  const head = new ByteWriter();
  writeHeader(head, headersAt, sections.length + 2);
  writeProgramHeader(head, 1, 0, file.length);
  if (options.dynamic !== undefined) writeProgramHeader(head, 2, dynamicAt, dynamic.length);
  else writeProgramHeader(head, 0, 0, 0);
  if (options.note !== undefined) writeProgramHeader(head, 4, noteAt, options.note.length);
  else writeProgramHeader(head, 0, 0, 0);
  file.set(head.finish());
  return file;
}

function writeHeader(head: ByteWriter, headersAt: number, sections: number): void {
  head.raw(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  head
    .u16(2)
    .u16(62)
    .u32(1)
    .u64(BigInt(BASE + FIRST))
    .u64(64n)
    .u64(BigInt(headersAt))
    .u32(0);
  head
    .u16(64)
    .u16(56)
    .u16(3)
    .u16(64)
    .u16(sections)
    .u16(sections - 1);
}

function writeProgramHeader(head: ByteWriter, type: number, offset: number, size: number): void {
  const address = BigInt(BASE + offset);
  head.u32(type).u32(5).u64(BigInt(offset)).u64(address).u64(address);
  head.u64(BigInt(size)).u64(BigInt(size)).u64(4n);
}

function writeSectionHeaders(
  body: ByteWriter,
  sections: readonly TinySection[],
  offsets: readonly number[],
  names: { namesAt: number; size: number },
): void {
  body.raw(new Uint8Array(64));
  let name = 1;
  for (const [at, section] of sections.entries()) {
    const offset = offsets[at] ?? 0;
    body
      .u32(name)
      .u32(section.type)
      .u64(BigInt(section.flags ?? 2))
      .u64(BigInt(BASE + offset));
    body.u64(BigInt(offset)).u64(section.claimedSize ?? BigInt(section.bytes.length));
    body
      .u32(section.link ?? 0)
      .u32(0)
      .u64(16n)
      .u64(BigInt(section.entrySize ?? 0));
    name += section.name.length + 1;
  }
  body.u32(name).u32(3).u64(0n).u64(0n).u64(BigInt(names.namesAt)).u64(BigInt(names.size));
  body.u32(0).u32(0).u64(1n).u64(0n);
}

/** Bytes written by a function. */
export function bytesOf(write: (writer: ByteWriter) => void): Uint8Array {
  const writer = new ByteWriter();
  write(writer);
  return writer.finish();
}

/** Symbol rows: name offset, type and binding, section, address, size. */
export function symbolRows(
  rows: readonly (readonly [number, number, number, number | bigint, number | bigint])[],
): Uint8Array {
  return bytesOf((writer) => {
    writer.raw(new Uint8Array(24));
    for (const [name, info, section, address, size] of rows) {
      writer.u32(name).u8(info).u8(0).u16(section).u64(BigInt(address)).u64(BigInt(size));
    }
  });
}
