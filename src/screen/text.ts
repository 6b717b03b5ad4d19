/** Text from elsewhere (names in files, in targets) on one line of a terminal. */

/**
 * Makes control characters visible (`\x1b`), so that a name can't move the cursor, begin a new line or
 * change the terminal.
 */
export function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

/** The width of a text in columns, taken as its number of code points. */
export function widthOf(text: string): number {
  let width = 0;
  for (let at = 0; at < text.length; at += (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1) width++;
  return width;
}

/** Cuts a text to `width` code points, with `…` as the last of them where something is cut off. */
export function cut(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  if (width < 1) return '';
  return `${Array.from(text)
    .slice(0, width - 1)
    .join('')}…`;
}
