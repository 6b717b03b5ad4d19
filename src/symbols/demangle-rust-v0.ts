/**
 * Rust's second mangling, `_R…` (Rust RFC 2603, "Rust Symbol Mangling v0"). A recursive-descent
 * printer over the name; back references are followed by reading again from an earlier place.
 */

import { decodePunycode } from './punycode.ts';

/** A name that is not of this form; never leaves this file. */
class NotMangled extends Error {}

const BASIC_TYPES: ReadonlyMap<string, string> = new Map([
  ['a', 'i8'],
  ['b', 'bool'],
  ['c', 'char'],
  ['d', 'f64'],
  ['e', 'str'],
  ['f', 'f32'],
  ['h', 'u8'],
  ['i', 'isize'],
  ['j', 'usize'],
  ['l', 'i32'],
  ['m', 'u32'],
  ['n', 'i128'],
  ['o', 'u128'],
  ['p', '_'],
  ['s', 'i16'],
  ['t', 'u16'],
  ['u', '()'],
  ['v', '...'],
  ['x', 'i64'],
  ['y', 'u64'],
  ['z', '!'],
]);

/** Back references can double a name at each step: both bounds stop that early. */
const MAX_DEPTH = 300;
const MAX_STEPS = 20_000;

/** The path without crate hashes, or undefined when `name` is not of this form. */
export function demangleRustV0(name: string): string | undefined {
  if (!name.startsWith('_R')) return undefined;
  const dot = name.search(/[.$]/);
  const body = dot < 0 ? name.slice(2) : name.slice(2, dot);
  // A digit here would be an encoding version; only version 0, which writes none, exists.
  if (!/^[A-Z]\w*$/.test(body)) return undefined;
  const suffix = dot < 0 ? '' : name.slice(dot).replace(/^\.llvm\.[0-9A-F@]+$/, '');
  try {
    return new Printer(body).symbol() + suffix;
  } catch (error) {
    if (error instanceof NotMangled) return undefined;
    throw error;
  }
}

class Printer {
  readonly #text: string;
  #at = 0;
  #depth = 0;
  #steps = 0;
  /** Lifetimes that `for<…>` around the current place binds. */
  #bound = 0;

  constructor(text: string) {
    this.#text = text;
  }

  symbol(): string {
    const path = this.#path(true);
    // What follows is the crate that instantiated a generic function; it is not shown.
    if (this.#at < this.#text.length) this.#path(false);
    if (this.#at < this.#text.length) throw new NotMangled();
    return path;
  }

  #next(): string {
    if (this.#at >= this.#text.length || ++this.#steps > MAX_STEPS) throw new NotMangled();
    return this.#text.charAt(this.#at++);
  }

  #eat(character: string): boolean {
    if (this.#text.charAt(this.#at) !== character) return false;
    this.#at++;
    return true;
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > MAX_DEPTH) throw new NotMangled();
    const result = read();
    this.#depth--;
    return result;
  }

  /** Digits in base 62 up to `_`; `_` alone is 0. */
  #base62(): number {
    if (this.#eat('_')) return 0;
    let value = 0;
    for (let character = this.#next(); character !== '_'; character = this.#next()) {
      // Crate hashes pass 2^53 and lose their last digits: they are not shown.
      value = value * 62 + digit62(character);
    }
    return value + 1;
  }

  #tagged62(tag: string): number {
    return this.#eat(tag) ? this.#base62() + 1 : 0;
  }

  #identifier(): string {
    const isPunycode = this.#eat('u');
    let digits = this.#next();
    if (!/\d/.test(digits)) throw new NotMangled();
    while (digits !== '0' && /\d/.test(this.#text.charAt(this.#at))) digits += this.#next();
    this.#eat('_');
    const end = this.#at + Number(digits);
    if (end > this.#text.length) throw new NotMangled();
    const text = this.#text.slice(this.#at, end);
    this.#at = end;
    if (!isPunycode) return text;
    const decoded = decodePunycode(text);
    if (decoded === undefined) throw new NotMangled();
    return decoded;
  }

  #backReference<T>(read: () => T): T {
    const here = this.#at - 1;
    const target = this.#base62();
    if (target >= here) throw new NotMangled();
    const back = this.#at;
    this.#at = target;
    const result = this.#nested(read);
    this.#at = back;
    return result;
  }

  /** @param inValue whether generic arguments are written `::<…>`, as in expressions. */
  #path(inValue: boolean): string {
    return this.#nested(() => {
      const tag = this.#next();
      switch (tag) {
        case 'C': {
          this.#tagged62('s');
          return this.#identifier();
        }
        case 'M':
        case 'X': {
          this.#tagged62('s');
          this.#path(false); // where the impl stands; people write the type
          return this.#implementation(tag === 'X');
        }
        case 'Y':
          return this.#implementation(true);
        case 'N':
          return this.#namespaced(inValue);
        case 'I': {
          const path = this.#path(inValue);
          const values = this.#list(() => this.#genericArgument()).join(', ');
          return `${path}${inValue ? '::' : ''}<${values}>`;
        }
        case 'B':
          return this.#backReference(() => this.#path(inValue));
        default:
          throw new NotMangled();
      }
    });
  }

  #implementation(ofTrait: boolean): string {
    const type = this.#type();
    return ofTrait ? `<${type} as ${this.#path(false)}>` : `<${type}>`;
  }

  #namespaced(inValue: boolean): string {
    const space = this.#next();
    const parent = this.#path(inValue);
    const number = this.#tagged62('s');
    const name = this.#identifier();
    if (/[a-z]/.test(space)) return name === '' ? parent : `${parent}::${name}`;
    if (!/[A-Z]/.test(space)) throw new NotMangled();
    const kind = { C: 'closure', S: 'shim' }[space] ?? space;
    return `${parent}::{${kind}${name === '' ? '' : `:${name}`}#${number}}`;
  }

  #list<T>(read: () => T): T[] {
    const items: T[] = [];
    while (!this.#eat('E')) items.push(read());
    return items;
  }

  #genericArgument(): string {
    if (this.#eat('L')) return this.#lifetime(this.#base62());
    if (this.#eat('K')) return this.#constant();
    return this.#type();
  }

  #lifetime(index: number): string {
    if (index === 0) return "'_";
    const depth = this.#bound - index;
    if (depth < 0) throw new NotMangled();
    return depth < 26 ? `'${String.fromCharCode(97 + depth)}` : `'_${depth}`;
  }

  /** `for<'a, 'b> `, and `read` with these lifetimes bound. */
  #binder(read: () => string): string {
    const count = this.#tagged62('G');
    if (count > 1000) throw new NotMangled();
    const names: string[] = [];
    for (let made = 0; made < count; made++) {
      this.#bound++;
      names.push(this.#lifetime(1));
    }
    const text = read();
    this.#bound -= count;
    return names.length === 0 ? text : `for<${names.join(', ')}> ${text}`;
  }

  #type(): string {
    return this.#nested(() => {
      const tag = this.#next();
      const basic = BASIC_TYPES.get(tag);
      if (basic !== undefined) return basic;
      switch (tag) {
        case 'A':
          return `[${this.#type()}; ${this.#constant()}]`;
        case 'S':
          return `[${this.#type()}]`;
        case 'T': {
          const items = this.#list(() => this.#type());
          return items.length === 1 ? `(${items.join('')},)` : `(${items.join(', ')})`;
        }
        case 'R':
        case 'Q':
          return this.#reference(tag === 'Q');
        case 'P':
          return `*const ${this.#type()}`;
        case 'O':
          return `*mut ${this.#type()}`;
        case 'F':
          return this.#binder(() => this.#functionType());
        case 'D':
          return this.#dynamicType();
        case 'B':
          return this.#backReference(() => this.#type());
        default:
          this.#at--;
          return this.#path(false);
      }
    });
  }

  #reference(mutable: boolean): string {
    let text = '&';
    if (this.#eat('L')) {
      const index = this.#base62();
      if (index > 0) text += `${this.#lifetime(index)} `;
    }
    return `${text}${mutable ? 'mut ' : ''}${this.#type()}`;
  }

  #functionType(): string {
    let text = this.#eat('U') ? 'unsafe ' : '';
    if (this.#eat('K')) {
      const abi = this.#eat('C') ? 'C' : this.#identifier().replaceAll('_', '-');
      text += `extern "${abi}" `;
    }
    text += `fn(${this.#list(() => this.#type()).join(', ')})`;
    return this.#eat('u') ? text : `${text} -> ${this.#type()}`;
  }

  #dynamicType(): string {
    const bounds = this.#binder(() => this.#list(() => this.#dynamicTrait()).join(' + '));
    if (!this.#eat('L')) throw new NotMangled();
    const index = this.#base62();
    return index === 0 ? `dyn ${bounds}` : `dyn ${bounds} + ${this.#lifetime(index)}`;
  }

  /** A trait with its associated types, which stand among the generic arguments when printed. */
  #dynamicTrait(): string {
    let text = this.#path(false);
    const types: string[] = [];
    while (this.#eat('p')) types.push(`${this.#identifier()} = ${this.#type()}`);
    if (types.length === 0) return text;
    if (text.endsWith('>')) text = `${text.slice(0, -1)}, `;
    else text += '<';
    return `${text}${types.join(', ')}>`;
  }

  #constant(): string {
    return this.#nested(() => {
      const tag = this.#next();
      if (tag === 'B') return this.#backReference(() => this.#constant());
      if (tag === 'p') return '_';
      const sign = 'ailnsx'.includes(tag) && this.#eat('n') ? '-' : '';
      if ('abchijlmnostxy'.includes(tag)) return constantText(tag, sign, this.#hexadecimal());
      throw new NotMangled();
    });
  }

  #hexadecimal(): bigint {
    let digits = '';
    for (let character = this.#next(); character !== '_'; character = this.#next()) {
      if (!/[0-9a-f]/.test(character)) throw new NotMangled();
      digits += character;
    }
    return digits === '' ? 0n : BigInt(`0x${digits}`);
  }
}

function constantText(tag: string, sign: string, value: bigint): string {
  if (tag === 'b') {
    if (value > 1n) throw new NotMangled();
    return value === 1n ? 'true' : 'false';
  }
  if (tag !== 'c') return `${sign}${value}`;
  if (value > 0x10ffffn || (value >= 0xd800n && value <= 0xdfffn)) throw new NotMangled();
  const character = String.fromCodePoint(Number(value));
  return `'${{ '\n': '\\n', '\r': '\\r', '\t': '\\t', "'": "\\'", '\\': '\\\\', '\0': '\\0' }[character] ?? character}'`;
}

function digit62(character: string): number {
  const digit = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'.indexOf(character);
  if (digit < 0) throw new NotMangled();
  return digit;
}
