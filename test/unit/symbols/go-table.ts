/** Go's function tables, byte by byte. */

import { BASE, FIRST, bytesOf, tinyElf, type TinySection } from './tiny-elf.ts';

const TEXT = BASE + FIRST;
/** Two functions of 8 and 20 bytes, each followed by what the linker fills gaps with. */
export const GO_CODE: TinySection = {
  name: '.text',
  type: 1,
  flags: 6,
  bytes: Uint8Array.from({ length: 64 }, (_, at) =>
    (at >= 8 && at < 16) || at >= 36 ? 0xcc : 0x90,
  ),
};
const STARTS = [0, 16, 64] as const;
const NAMES = new TextEncoder().encode('\0main.first\0main.(*T).second\0');
const NAME_OFFSETS = [1, 12] as const;

/** Every layout, by the version of Go that began it. */
export const GO_LAYOUTS = ['1.2', '1.16', '1.18', '1.20'] as const;

type Layout = (typeof GO_LAYOUTS)[number];

/** A function table of each layout; records lie behind the pairs. */
export function functionTable(layout: Layout, textStart: number = TEXT): Uint8Array {
  const magic = { '1.2': 0xfffffffb, '1.16': 0xfffffffa, '1.18': 0xfffffff0, '1.20': 0xfffffff1 };
  const header = (words: readonly number[]): Uint8Array =>
    bytesOf((w) => {
      w.u32(magic[layout]).u8(0).u8(0).u8(1).u8(8);
      for (const word of words) w.u64(BigInt(word));
    });
  const wide = layout === '1.2' || layout === '1.16';
  const pairBytes = wide ? 40 : 20;
  const table = (recordBase: number): Uint8Array =>
    bytesOf((w) => {
      STARTS.forEach((start, at) => {
        const record = recordBase + at * 16;
        if (wide) w.u64(BigInt(TEXT + start));
        else w.u32(start);
        if (at === 2) return;
        if (wide) w.u64(BigInt(record));
        else w.u32(record);
      });
      STARTS.slice(0, 2).forEach((start, at) => {
        if (wide)
          w.u64(BigInt(TEXT + start))
            .u32(NAME_OFFSETS[at] ?? 0)
            .u32(0);
        else
          w.u32(start)
            .u32(NAME_OFFSETS[at] ?? 0)
            .u64(0n);
      });
    });
  if (layout === '1.2') {
    // Offsets count from the section's start; names stand in the section, too.
    const start = 16 + pairBytes + 32;
    const whole = Uint8Array.from([...header([2]), ...table(16 + pairBytes), ...NAMES]);
    const view = new DataView(whole.buffer);
    NAME_OFFSETS.forEach((offset, at) => {
      view.setUint32(16 + pairBytes + at * 16 + 8, start + offset, true);
    });
    return whole;
  }
  const words = layout === '1.16' ? 7 : 8;
  const at = 8 + words * 8;
  const pairs = at + NAMES.length;
  const text = layout === '1.16' ? [] : [textStart];
  return Uint8Array.from([
    ...header([2, 0, ...text, at, 0, 0, 0, pairs]),
    ...NAMES,
    ...table(pairBytes),
  ]);
}

/** A tiny program with such a table. @param textStart what the table says where its text starts */
export function goFile(
  layout: Layout,
  textStart?: number,
  ...more: readonly TinySection[]
): Uint8Array {
  const table = { name: '.gopclntab', type: 1, bytes: functionTable(layout, textStart) };
  return tinyElf([GO_CODE, table, ...more]);
}
