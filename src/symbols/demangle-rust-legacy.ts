/**
 * Rust's first mangling: `_ZN`, path components as in Itanium names, the last one a hash of 16
 * digits, `E`. What an identifier can't hold is escaped as `$…$` (rustc, legacy symbol names).
 */

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['SP', '@'],
  ['BP', '*'],
  ['RF', '&'],
  ['LT', '<'],
  ['GT', '>'],
  ['LP', '('],
  ['RP', ')'],
  ['C', ','],
]);

/** The path without its hash, or undefined when `name` is not of this form. */
export function demangleRustLegacy(name: string): string | undefined {
  if (!name.startsWith('_ZN')) return undefined;
  const parts: string[] = [];
  let at = 3;
  while (name.charAt(at) !== 'E') {
    const digits = /^[1-9]\d{0,4}/.exec(name.slice(at, at + 5))?.[0];
    if (digits === undefined) return undefined;
    const start = at + digits.length;
    at = start + Number(digits);
    if (at >= name.length) return undefined;
    parts.push(name.slice(start, at));
  }
  const hash = parts.pop();
  if (parts.length === 0 || hash === undefined || !/^h[0-9a-f]{16}$/.test(hash)) return undefined;
  const suffix = name.slice(at + 1);
  if (suffix !== '' && !/^\.[\w.$@]+$/.test(suffix)) return undefined;
  // LLVM's own suffix tells copies of one function apart and is noise to people.
  const shown = suffix.replace(/\.llvm\.[0-9A-F@]+$/, '');
  const components = parts.map(unescape);
  if (components.includes(undefined)) return undefined;
  return components.join('::') + shown;
}

/** The hash of a legacy name (`h0123456789abcdef`), for people who copied it from elsewhere. */
export function rustLegacyHash(name: string): string | undefined {
  return /17(h[0-9a-f]{16})E/.exec(name)?.[1];
}

function unescape(component: string): string | undefined {
  // An identifier can't begin with an escape: the compiler puts a `_` in front.
  const text = component.startsWith('_$') ? component.slice(1) : component;
  let result = '';
  let at = 0;
  while (at < text.length) {
    const character = text.charAt(at);
    if (character === '.' && text.charAt(at + 1) === '.') {
      result += '::';
      at += 2;
    } else if (character === '$') {
      const end = text.indexOf('$', at + 1);
      const replacement = end < 0 ? undefined : escaped(text.slice(at + 1, end));
      if (replacement === undefined) return undefined;
      result += replacement;
      at = end + 1;
    } else {
      result += character;
      at++;
    }
  }
  return result;
}

function escaped(code: string): string | undefined {
  const known = ESCAPES.get(code);
  if (known !== undefined) return known;
  const digits = /^u([0-9a-f]{1,6})$/.exec(code)?.[1];
  if (digits === undefined) return undefined;
  const point = Number.parseInt(digits, 16);
  const isText = point >= 0x20 && point !== 0x7f && point <= 0x10ffff && !isSurrogate(point);
  return isText ? String.fromCodePoint(point) : undefined;
}

function isSurrogate(point: number): boolean {
  return point >= 0xd800 && point <= 0xdfff;
}
