/**
 * Finds the few mangled names that a readable name could belong to, so that one look-up does not
 * demangle a whole table. An identifier that a person wrote in the source stands in the mangled
 * name as it is, in all three manglings; what a demangler adds by itself is listed here.
 */

import { Buffer } from 'node:buffer';

import type { SymbolRows } from './symbol-rows.ts';

/**
 * Words that appear in demangled names without being in the mangled one: builtin types,
 * abbreviations (Itanium C++ ABI, 5.1.10), and what demanglers say about special names.
 */
const ADDED_WORDS = (
  'allocator basic_string basic_istream basic_ostream basic_iostream string istream ostream ' +
  'iostream char_traits anonymous namespace operator signed unsigned short long int char bool ' +
  'float double void wchar_t char8_t char16_t char32_t __int128 __float128 _Float16 _Float32 ' +
  '_Float64 _Float128 std decimal32 decimal64 decimal128 nullptr_t decltype auto noexcept const volatile restrict ' +
  'complex imaginary lambda unnamed type parm this clone vtable typeinfo name guard variable for ' +
  'virtual thunk non covariant return to init function wrapper initialization reference temporary ' +
  'transaction safe construction new delete sizeof alignof alignas typeid dynamic_cast static_cast ' +
  'reinterpret_cast const_cast throw initializer requires template argument object global true ' +
  'false keyed constructors destructors ull ul structured binding entry java class hidden alias ' +
  'local within non-transaction closure shim usize isize u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 ' +
  'f32 f64 str dyn extern unsafe mut as fn'
).split(' ');

/** The shortest piece that is worth a search: shorter ones are everywhere. */
const MIN_NEEDLE = 3;

/**
 * The longest piece of `text` that every mangled name with that piece in its readable form must
 * hold.
 * @param complete whether the words of `text` are whole; in a glob they may be parts of words.
 * @returns undefined when there is none.
 */
export function needleOf(text: string, { complete }: { complete: boolean }): string | undefined {
  let best: string | undefined;
  for (const [word] of text.matchAll(/(?<![\w\u0080-\uffff])[A-Za-z_]\w*(?![\u0080-\uffff])/g)) {
    if (word.length < MIN_NEEDLE || word.length <= (best?.length ?? 0)) continue;
    const isAdded = complete
      ? ADDED_WORDS.includes(word)
      : ADDED_WORDS.some((added) => added.includes(word));
    if (!isAdded) best = word;
  }
  return best;
}

/** The rows whose names begin with `_Z` or `_R` and hold `needle` (all of them without one). */
export function* mangledRows(rows: SymbolRows, needle: string | undefined): Generator<number> {
  const holds = needle === undefined ? undefined : new Occurrences(rows.strings, needle);
  const { strings } = rows;
  for (let row = 0; row < rows.count; row++) {
    const at = rows.nameOffset(row);
    if (strings[at] !== 0x5f) continue;
    const second = strings[at + 1];
    if (second !== 0x5a && second !== 0x52) continue; // Z, R
    if (holds === undefined || holds.inStringAt(at)) yield row;
  }
}

/** Where a piece of text occurs in a table of NUL-terminated strings. */
class Occurrences {
  /** For each string that holds the piece: its first offset and the last place of the piece. */
  readonly #starts: number[] = [];
  readonly #lasts: number[] = [];

  constructor(strings: Buffer, needle: string) {
    const bytes = Buffer.from(needle);
    let at = strings.indexOf(bytes);
    while (at >= 0) {
      const start = at === 0 ? 0 : strings.lastIndexOf(0, at - 1) + 1;
      const found = strings.indexOf(0, at);
      const end = found < 0 ? strings.length : found;
      this.#starts.push(start);
      this.#lasts.push(strings.lastIndexOf(bytes, end - bytes.length));
      at = strings.indexOf(bytes, end);
    }
  }

  /** Whether the piece occurs from `offset` (maybe the middle of a shared string) to its end. */
  inStringAt(offset: number): boolean {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle] ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    return low > 0 && (this.#lasts[low - 1] ?? 0) >= offset;
  }
}
