/** Fetch expressions in the kernel's syntax: `%di`, `$arg1`, `$comm`, `+8(%di)`, `@0x1000`, `\\1`. */

import { unreachable } from '../base/errors.ts';
import type { ArgumentContext } from './arguments.ts';
import { parseSigned, parseUnsigned, printMagnitude } from './numbers.ts';
import type { Fetch } from './program.ts';
import { refusal } from './refusals.ts';
import {
  ARGUMENT_REGISTERS,
  KERNEL_REGISTER_NAMES,
  kernelNameOf,
  registerByName,
} from './registers.ts';
import type { Word } from './tokens.ts';

/** The deepest nesting that the kernel takes: 16 steps (FETCH_INSN_MAX), less the base and the end. */
const MAX_DEREFERENCES = 14;

/** The largest N of `$stackN`: 8 × N still fits the displacement of an instruction. */
const MAX_STACK_INDEX = 2 ** 28 - 1;

const VARIABLES = '$arg1 to $arg6, $stack, $stackN, $comm and, of a return probe, $retval';

/** A fetch with what the kernel's limits are about. */
export interface ParsedFetch {
  readonly fetch: Fetch;
  /** Steps that the kernel would take to get it. */
  readonly steps: number;
  /** Where the kernel points at if they are too many. */
  readonly column: number;
}

/**
 * Parses a fetch expression, without a name and a type.
 * @throws TraplineError `bad-definition`, with the kernel's wording and column.
 */
export function parseFetch(context: ArgumentContext, expression: Word): ParsedFetch {
  const { text } = context;
  const offsets: bigint[] = [];
  const columns: number[] = [];
  let inner = expression;
  while (/^[+-]/.test(inner.text)) {
    const step = openDereference(text, inner);
    offsets.push(step.offset);
    inner = step.inner;
    columns.push(inner.column);
  }
  const base = parseBase(context, inner);
  if (offsets.length > 0 && (base.kind === 'comm' || base.kind === 'text')) {
    throw refusal(text, inner.column, 'commDereferenced');
  }
  const isLoad = base.kind === 'load';
  const room = MAX_DEREFERENCES - (isLoad ? 1 : 0);
  if (offsets.length > room) {
    const column = columns[offsets.length - room - 1] ?? expression.column;
    throw refusal(text, column, 'tooManyDereferences');
  }
  return {
    fetch: offsets.reduceRight<Fetch>((at, offset) => ({ kind: 'load', base: at, offset }), base),
    steps: 1 + offsets.length + (isLoad ? 1 : 0),
    column: columns[0] ?? expression.column,
  };
}

/** Writes a fetch expression so that {@link parseFetch} reads the same tree. */
export function printFetch(fetch: Fetch): string {
  switch (fetch.kind) {
    case 'register':
      return `%${kernelNameOf(fetch.register)}`;
    case 'stack':
      return `$stack${fetch.index}`;
    case 'comm':
      return '$comm';
    case 'immediate':
      return `\\${printSigned(BigInt.asIntN(64, fetch.value))}`;
    case 'text':
      return `\\"${fetch.text}"`;
    case 'return-value':
      return '$retval';
    case 'file':
      // Only beneath a load, where it is printed with it.
      return `@+${printSigned(fetch.offset)}`;
    case 'load': {
      const { base, offset } = fetch;
      if (base.kind === 'file' && offset === 0n) return printFetch(base);
      if (base.kind === 'immediate' && offset === 0n) return `@${printMagnitude(base.value)}`;
      const sign = offset < 0n ? '-' : '+';
      return `${sign}${printMagnitude(offset < 0n ? -offset : offset)}(${printFetch(base)})`;
    }
    default:
      return unreachable(fetch);
  }
}

function printSigned(value: bigint): string {
  return value < 0n ? `-${printMagnitude(-value)}` : printMagnitude(value);
}

/** Takes `+OFFSET(` and the last `)` off; `+u` is `+`, as all memory here is the user's. */
function openDereference(
  text: string,
  { text: arg, column }: Word,
): { offset: bigint; inner: Word } {
  const sign = arg.charAt(0);
  const numberAt = arg.charAt(1) === 'u' ? 2 : 1;
  const open = arg.indexOf('(');
  if (open < 0) throw refusal(text, column, 'dereferenceNeedsBrace', 'write +OFFSET(FETCH)');
  const digits = arg.slice(numberAt, open);
  const offset = parseSigned(sign === '-' ? `-${digits}` : digits);
  if (offset === undefined) throw refusal(text, column, 'badDereferenceOffset');
  const close = arg.lastIndexOf(')');
  if (close < open) throw refusal(text, column + arg.length, 'dereferenceOpen');
  // The kernel ignores what follows the closing brace; we don't hide a slip of the pen.
  if (close + 1 < arg.length) throw refusal(text, column + close + 1, 'badFetch');
  return { offset, inner: { text: arg.slice(open + 1, close), column: column + open + 1 } };
}

function parseBase(context: ArgumentContext, word: Word): Fetch {
  const { text } = context;
  const { text: arg, column } = word;
  switch (arg.charAt(0)) {
    case '%': {
      const register = registerByName(arg.slice(1));
      if (register !== undefined) return { kind: 'register', register };
      const names = KERNEL_REGISTER_NAMES.map((name) => `%${name}`).join(' ');
      throw refusal(text, column, 'badRegister', `the registers are ${names}`);
    }
    case '$':
      return parseVariable(context, { text: arg.slice(1), column });
    case '@':
      return { kind: 'load', base: parsePlace(text, word), offset: 0n };
    case '\\':
      return parseImmediate(text, word);
    default:
      throw refusal(
        text,
        column,
        'badFetch',
        `a register begins with %, memory with + or - or @, a constant with \\; the variables are ${VARIABLES}`,
      );
  }
}

/** `@ADDRESS` or `@+FILE_OFFSET`. */
function parsePlace(text: string, { text: arg, column }: Word): Fetch {
  if (/^[0-9]/.test(arg.slice(1))) {
    const value = parseUnsigned(arg.slice(1));
    if (value !== undefined) return { kind: 'immediate', value };
    throw refusal(text, column, 'badMemoryAddress');
  }
  if (arg.charAt(1) !== '+') {
    throw refusal(text, column, 'symbolOnProbe', 'write @ADDRESS or @+FILE_OFFSET');
  }
  const offset = parseSigned(arg.slice(2));
  if (offset !== undefined) return { kind: 'file', offset };
  throw refusal(text, column, 'badFileOffset');
}

/** `\\NUMBER` or `\\"text"`. */
function parseImmediate(text: string, { text: arg, column }: Word): Fetch {
  if (arg.charAt(1) === '"') {
    if (arg.length > 2 && arg.endsWith('"')) return { kind: 'text', text: arg.slice(2, -1) };
    throw refusal(text, column + arg.length, 'textOpen');
  }
  const digits = arg.slice(1);
  // A sign makes it a signed number; without one it may have all 64 bits.
  const value = /^[0-9]/.test(digits)
    ? parseUnsigned(digits)
    : parseSigned(digits.startsWith('+') ? digits.slice(1) : digits);
  if (value === undefined) throw refusal(text, column + 1, 'badImmediate');
  return { kind: 'immediate', value: BigInt.asUintN(64, value) };
}

/** @param word the variable without its `$`, with the column of the `$`. */
function parseVariable(context: ArgumentContext, { text: name, column }: Word): Fetch {
  const { text } = context;
  if (name === 'comm' || name === 'COMM') return { kind: 'comm' };
  if (name === 'stack') return { kind: 'register', register: 'rsp' };
  // The kernel looks no further than the prefix.
  if (name.startsWith('retval')) {
    if (context.isReturn) return { kind: 'return-value' };
    throw refusal(text, column, 'retvalOnProbe');
  }
  const [, kind, digits] = /^(stack|arg)([0-9]+)$/.exec(name) ?? [];
  const index = Number(digits);
  if (kind === 'stack') {
    if (index <= MAX_STACK_INDEX) return { kind: 'stack', index };
    throw refusal(text, column, 'badStackNumber', `the largest is ${MAX_STACK_INDEX}`);
  }
  if (kind === 'arg') {
    const register = ARGUMENT_REGISTERS[index - 1];
    if (register !== undefined) return { kind: 'register', register };
    throw refusal(
      text,
      column,
      'badArgumentNumber',
      'registers hold the first six arguments; at its entry a function finds the seventh in $stack1',
    );
  }
  throw refusal(text, column, 'badVariable', `the variables are ${VARIABLES}`);
}
