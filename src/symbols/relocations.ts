/** Tables of relocations (gABI, "Relocation", "Relative Relocation Table"). */

/** Kinds by what the loader writes (x86-64 psABI, table 4.9); the linker says which word. */
export const RELOCATION = {
  /** R_X86_64_64: a symbol's address + addend. */
  absolute: 1,
  /** R_X86_64_GLOB_DAT: a symbol's address. */
  globalData: 6,
  /** R_X86_64_JUMP_SLOT: the same, for the procedure linkage table. */
  jumpSlot: 7,
  /** R_X86_64_RELATIVE: load base + addend. */
  relative: 8,
  /** R_X86_64_IRELATIVE: what the function at load base + addend returns. */
  indirectRelative: 37,
} as const;

/** Whether the loader writes a symbol's address into the word. */
export function fillsWithSymbol(kind: number): boolean {
  return kind === RELOCATION.globalData || kind === RELOCATION.jumpSlot;
}

const ENTRY_BYTES = 24;
const WORD_BYTES = 8;
/** Words that one bitmap of a packed table stands for. */
const BITMAP_WORDS = 63;
const HALF = 0x1_0000_0000;

/** Takes one relocation: its kind, the address of its word (the file's own numbering), its addend, its symbol's row. */
export type TakeRelocation = (kind: number, word: number, addend: number, symbol: number) => void;

/**
 * Shows every relocation of a table, in its order. What is left over behind the last whole one is passed over.
 * There may be hundreds of thousands: nothing is made for each, and two halves make a number without a bigint.
 */
export function forEachRelocation(table: Uint8Array, take: TakeRelocation): void {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  for (let at = 0; at + ENTRY_BYTES <= table.byteLength; at += ENTRY_BYTES) {
    const word = view.getUint32(at + 4, true) * HALF + view.getUint32(at, true);
    const addend = view.getInt32(at + 20, true) * HALF + view.getUint32(at + 16, true);
    take(view.getUint32(at + 8, true), word, addend, view.getUint32(at + 12, true));
  }
}

/**
 * Shows the address of every word of a packed table (DT_RELR), to which the loader adds the load base. An even entry is an
 * address; an odd one has a bit, above the lowest, for each of the 63 words behind those before.
 */
export function forEachPacked(table: Uint8Array, take: (word: number) => void): void {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  let next = 0;
  for (let at = 0; at + WORD_BYTES <= table.byteLength; at += WORD_BYTES) {
    const [low, high] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
    if ((low & 1) === 0) {
      const word = high * HALF + low;
      take(word);
      next = word + WORD_BYTES;
      continue;
    }
    for (let bit = 0; bit < BITMAP_WORDS; bit++) {
      const half = bit < 31 ? low >>> (bit + 1) : high >>> (bit - 31);
      if ((half & 1) === 1) take(next + bit * WORD_BYTES);
    }
    next += BITMAP_WORDS * WORD_BYTES;
  }
}
