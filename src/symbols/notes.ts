/** ELF notes (gABI, chapter 5, "Note Section"). */

import { elfReader } from './malformed.ts';

/** One note. `description` is a view into the file. */
export interface Note {
  readonly owner: string;
  readonly type: number;
  readonly description: Uint8Array;
}

/**
 * Reads the notes of one PT_NOTE segment or SHT_NOTE section.
 * @param alignment 4, or 8 for the property notes of x86-64 (psABI); anything else counts as 4.
 * @throws TraplineError `bad-elf` when a note leaves `bytes`.
 */
export function readNotes(bytes: Uint8Array, alignment: number, source: string): Note[] {
  const unit = alignment === 8 ? 8 : 4;
  const reader = elfReader(bytes, source);
  const notes: Note[] = [];
  while (reader.remaining >= 12) {
    const ownerSize = reader.u32();
    const descriptionSize = reader.u32();
    const type = reader.u32();
    const owner = reader.take(ownerSize);
    reader.skip(Math.min(padding(reader.offset, unit), reader.remaining));
    const description = reader.take(descriptionSize);
    reader.skip(Math.min(padding(reader.offset, unit), reader.remaining));
    notes.push({ owner: textUntilNul(owner), type, description });
  }
  return notes;
}

const NT_GNU_BUILD_ID = 3;

/** The build id among notes, in lower-case hexadecimal; undefined when there is none. */
export function buildIdOf(notes: readonly Note[]): string | undefined {
  const note = notes.find(({ owner, type }) => owner === 'GNU' && type === NT_GNU_BUILD_ID);
  if (note === undefined) return undefined;
  return [...note.description.subarray(0, 64)]
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('');
}

function padding(offset: number, unit: number): number {
  return (unit - (offset % unit)) % unit;
}

function textUntilNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return String.fromCharCode(...bytes.subarray(0, Math.min(end < 0 ? bytes.length : end, 64)));
}
