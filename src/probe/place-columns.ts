/** Where in a definition its file stands, and its offset: for carets under what is wrong with them. */

import { tokenize, type LocationCharacter } from './tokens.ts';

/** Indexes in a definition's text. */
export interface PlaceColumns {
  /** Of all of it: its first character. */
  readonly place: number;
  /** Of the file, the process or the inode. */
  readonly file: number;
  /** Of the offset or address; of the file where there is none. */
  readonly offset: number;
}

/** @param text a definition that was parsed before. */
export function placeColumns(text: string): PlaceColumns {
  const { location } = tokenize(text);
  const columnOf = (index: number): number => location[index]?.column ?? 0;
  const place = columnOf(0);
  const at = lastBare(location, '@');
  if (at >= 0) {
    const plus = lastBare(location.slice(0, at), '+');
    const file = columnOf(at + 1);
    return { place, file, offset: plus < 0 ? file : columnOf(plus + 1) };
  }
  return { place, file: place, offset: columnOf(lastBare(location, ':') + 1) };
}

function lastBare(location: readonly LocationCharacter[], value: string): number {
  return location.findLastIndex((character) => character.value === value && !character.quoted);
}
