/** Fetch expressions in the kernel's syntax: `%di`, `$arg1`, `$stack2`, `$comm`, `+8(%di)`. */

import { unreachable } from '../base/errors.ts';
import { parseSigned, printMagnitude } from './numbers.ts';
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

const VARIABLES = '$arg1 to $arg6, $stack, $stackN and $comm';

/**
 * Parses a fetch expression, without a name and a type.
 * @param text the whole definition, for errors.
 * @throws TraplineError `bad-definition`, with the kernel's wording and column.
 */
export function parseFetch(text: string, expression: Word): Fetch {
  const offsets: bigint[] = [];
  let inner = expression;
  while (/^[+-]/.test(inner.text)) {
    const step = openDereference(text, inner);
    offsets.push(step.offset);
    inner = step.inner;
  }
  const base = parseBase(text, inner);
  if (offsets.length > 0 && base.kind === 'comm') {
    throw refusal(text, inner.column, 'commDereferenced');
  }
  if (offsets.length > MAX_DEREFERENCES) {
    throw refusal(text, expression.column, 'tooManyDereferences');
  }
  return offsets.reduceRight<Fetch>((at, offset) => ({ kind: 'load', base: at, offset }), base);
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
    case 'load': {
      const { base, offset } = fetch;
      const sign = offset < 0n ? '-' : '+';
      return `${sign}${printMagnitude(offset < 0n ? -offset : offset)}(${printFetch(base)})`;
    }
    default:
      return unreachable(fetch);
  }
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

function parseBase(text: string, { text: arg, column }: Word): Fetch {
  switch (arg.charAt(0)) {
    case '%': {
      const register = registerByName(arg.slice(1));
      if (register !== undefined) return { kind: 'register', register };
      const names = KERNEL_REGISTER_NAMES.map((name) => `%${name}`).join(' ');
      throw refusal(text, column, 'badRegister', `the registers are ${names}`);
    }
    case '$':
      return parseVariable(text, { text: arg.slice(1), column });
    case '@':
    case '\\':
      throw refusal(text, column, 'laterFetch', 'constants and fixed addresses come later');
    default:
      throw refusal(
        text,
        column,
        'badFetch',
        `a register begins with %, memory with + or -; the variables are ${VARIABLES}`,
      );
  }
}

/** @param word the variable without its `$`, with the column of the `$`. */
function parseVariable(text: string, { text: name, column }: Word): Fetch {
  if (name === 'comm' || name === 'COMM') return { kind: 'comm' };
  if (name === 'stack') return { kind: 'register', register: 'rsp' };
  // The kernel looks no further than the prefix.
  if (name.startsWith('retval')) throw refusal(text, column, 'retvalOnProbe');
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
