/** The types of a fetched value. */

import type { FieldType } from '../events/layout.ts';

/** What the kernel gives an argument of a uprobe that names no type (DEFAULT_FETCH_TYPE). */
export const DEFAULT_TYPE: FieldType = 'x64';

/** Every type that this version knows, in the order in which they are shown to a person. */
export const FIELD_TYPES: readonly FieldType[] = [
  'u8',
  'u16',
  'u32',
  'u64',
  's8',
  's16',
  's32',
  's64',
  'x8',
  'x16',
  'x32',
  'x64',
  'string',
];

const byName: ReadonlyMap<string, FieldType> = new Map(FIELD_TYPES.map((type) => [type, type]));

/** Finds a type by its name. */
export function typeByName(name: string): FieldType | undefined {
  return byName.get(name);
}

/** Whether a name is a type of the kernel's language that a later version will know. */
export function isLaterType(name: string): boolean {
  return /^(?:char|ustring|symbol|symstr|b\d+@\d+\/(?:8|16|32|64))$/.test(name);
}
