/** Arguments of a definition: `[NAME=]FETCH[:TYPE]`, in the kernel's syntax, within its limits. */

import type { FieldType } from '../events/layout.ts';
import { parseFetch, printFetch, type ParsedFetch } from './fetch.ts';
import type { Fetch, ProgramArgument } from './program.ts';
import { refusal } from './refusals.ts';
import type { Word } from './tokens.ts';
import { checkBits, DEFAULT_TYPE, parseType, printType } from './types.ts';

/** The most arguments that one definition may have (MAX_TRACE_ARGS). */
const MAX_ARGUMENTS = 128;
/** The longest name of an argument in bytes (MAX_ARG_NAME_LEN). */
const MAX_ARGUMENT_NAME = 32;
/** The longest expression of an argument in bytes, its type included, its name not (MAX_ARGSTR_LEN). */
const MAX_ARGUMENT_TEXT = 63;
/** Steps that fetching one argument may take (FETCH_INSN_MAX, less the end). */
const MAX_STEPS = 15;

/** Names that every event of the kernel has already (kernel/trace/trace_probe.c). */
const RESERVED_NAMES: ReadonlySet<string> = new Set([
  'common_type',
  'common_flags',
  'common_preempt_count',
  'common_pid',
  'common_tgid',
  '__probe_ip',
  '__probe_ret_ip',
  '__probe_func',
]);

/** What arguments are parsed for. */
export interface ArgumentContext {
  /** The whole definition, for errors. */
  readonly text: string;
  /** Whether there is a value that the function returned. */
  readonly isReturn: boolean;
}

/**
 * Parses the arguments of a definition.
 * @throws TraplineError `bad-definition`, with the kernel's wording and column.
 */
export function parseArguments(
  context: ArgumentContext,
  words: readonly Word[],
): ProgramArgument[] {
  const first = words[0];
  if (first !== undefined && words.length > MAX_ARGUMENTS) {
    const hint = `the most is ${MAX_ARGUMENTS}`;
    throw refusal(context.text, first.column, 'tooManyArguments', hint);
  }
  const used = new Set(RESERVED_NAMES);
  return words.map((word, index) => {
    const argument = parseArgument(context, word, index, used);
    used.add(argument.name);
    return argument;
  });
}

/** An argument as it stands in the kernel's listing: its name, and its fetch as it was written. */
export function listArgument({ name }: ProgramArgument, word: string): string {
  return `${name}=${word.slice(word.indexOf('=') + 1)}`;
}

/** Writes an argument so that {@link parseArguments} reads the same one. */
export function printArgument(argument: ProgramArgument): string {
  const { name, fetch } = argument;
  const isDefault = argument.type === defaultTypeOf(fetch) && argument.count === undefined;
  const type = isDefault && argument.bits === undefined ? '' : `:${printType(argument)}`;
  return `${name}=${printFetch(fetch)}${type}`;
}

function parseArgument(
  context: ArgumentContext,
  word: Word,
  index: number,
  used: ReadonlySet<string>,
): ProgramArgument {
  const { text } = context;
  const equals = word.text.indexOf('=');
  if (Buffer.byteLength(word.text.slice(0, Math.max(equals, 0))) > MAX_ARGUMENT_NAME)
    throw refusal(text, word.column, 'argumentNameTooLong');
  if (equals === 0) throw refusal(text, word.column, 'noArgumentName', 'write NAME=FETCH');
  const name = equals < 0 ? `arg${index + 1}` : word.text.slice(0, equals);
  if (!/^[A-Za-z_]\w*$/.test(name)) throw refusal(text, word.column, 'badArgumentName');
  if (used.has(name)) throw refusal(text, word.column, 'usedArgumentName');
  const body = { text: word.text.slice(equals + 1), column: word.column + equals + 1 };
  return { name, ...parseBody(context, body) };
}

/** Parses `FETCH[:TYPE]`; looks at the type first, because the kernel does. */
function parseBody(context: ArgumentContext, body: Word): Omit<ProgramArgument, 'name'> {
  const { text } = context;
  if (Buffer.byteLength(body.text) > MAX_ARGUMENT_TEXT)
    throw refusal(text, body.column, 'argumentTooLong');
  if (body.text === '') throw refusal(text, body.column, 'noArgumentBody');
  const colon = body.text.indexOf(':');
  const typeWord =
    colon < 0 ? undefined : { text: body.text.slice(colon + 1), column: body.column + colon + 1 };
  const expression = {
    text: colon < 0 ? body.text : body.text.slice(0, colon),
    column: body.column,
  };
  const isText = /^\$(?:comm|COMM)$|^\\"/.test(expression.text);
  if (isText && typeWord !== undefined && typeWord.text !== 'string') {
    // An array's own mistakes come first, whatever its elements are called.
    const open = typeWord.text.indexOf('[');
    const stand = 'u8';
    if (open >= 0) {
      parseType(text, {
        text: stand + typeWord.text.slice(open),
        column: typeWord.column + open - stand.length,
      });
    }
    throw refusal(text, typeWord.column, 'needsString');
  }
  const asked = typeWord === undefined ? undefined : parseType(text, typeWord);
  const parsed = parseFetch(context, expression);
  if (asked === undefined || typeWord === undefined) {
    return { type: defaultTypeOf(parsed.fetch), fetch: parsed.fetch };
  }
  return finish(text, body, typeWord, asked, parsed);
}

/** Holds a type against its fetch, in the kernel's order (finalize_fetch_insn). */
function finish(
  text: string,
  body: Word,
  typeWord: Word,
  { type, count, bitText }: ReturnType<typeof parseType>,
  parsed: ParsedFetch,
): Omit<ProgramArgument, 'name'> {
  let { fetch } = parsed;
  let { steps } = parsed;
  const inMemory = fetch.kind === 'load';
  const column = parsed.column;
  if (type === 'string') {
    if (fetch.kind === 'immediate') fetch = { kind: 'load', base: fetch, offset: 0n };
    else if (!inMemory && fetch.kind !== 'comm' && fetch.kind !== 'text') {
      const hint = `for a string that it points to, write +0(${body.text.slice(0, typeWord.column - body.column - 1)}):string`;
      throw refusal(text, typeWord.column, 'stringOfRegister', hint);
    }
  }
  if (!inMemory || (type === 'string' && count !== undefined)) steps++;
  if (steps > MAX_STEPS) throw refusal(text, column, 'tooManyDereferences');
  const bits = bitText === undefined ? undefined : checkBits(text, bitText, type);
  if (bits !== undefined && ++steps > MAX_STEPS) {
    throw refusal(text, typeWord.column, 'badBitField');
  }
  if (count !== undefined) {
    if (!inMemory) {
      throw refusal(
        text,
        typeWord.column,
        'stringOfRegister',
        'an array is of memory: +0(%di):u8[4]',
      );
    }
    if (++steps > MAX_STEPS) throw refusal(text, column, 'tooManyDereferences');
  }
  return {
    type,
    fetch,
    ...(bits === undefined ? {} : { bits }),
    ...(count === undefined ? {} : { count }),
  };
}

function defaultTypeOf(fetch: Fetch): FieldType {
  return fetch.kind === 'comm' || fetch.kind === 'text' ? 'string' : DEFAULT_TYPE;
}
