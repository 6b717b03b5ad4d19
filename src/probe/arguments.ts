/** Arguments of a definition: `[NAME=]FETCH[:TYPE]`, in the kernel's syntax, within its limits. */

import type { FieldType } from '../events/layout.ts';
import { parseFetch, printFetch } from './fetch.ts';
import type { Fetch, ProgramArgument } from './program.ts';
import { refusal } from './refusals.ts';
import type { Word } from './tokens.ts';
import { DEFAULT_TYPE, FIELD_TYPES, isLaterType, typeByName } from './types.ts';

/** The most arguments that one definition may have (MAX_TRACE_ARGS). */
const MAX_ARGUMENTS = 128;
/** The longest name of an argument (MAX_ARG_NAME_LEN). */
const MAX_ARGUMENT_NAME = 32;
/** The longest expression of an argument, its type included, its name not (MAX_ARGSTR_LEN). */
const MAX_ARGUMENT_TEXT = 63;

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

/**
 * Parses the arguments of a definition.
 * @param text the whole definition, for errors.
 * @throws TraplineError `bad-definition`, with the kernel's wording and column.
 */
export function parseArguments(text: string, words: readonly Word[]): ProgramArgument[] {
  const first = words[0];
  if (first !== undefined && words.length > MAX_ARGUMENTS) {
    throw refusal(text, first.column, 'tooManyArguments', `the most is ${MAX_ARGUMENTS}`);
  }
  const used = new Set(RESERVED_NAMES);
  return words.map((word, index) => {
    const argument = parseArgument(text, word, index, used);
    used.add(argument.name);
    return argument;
  });
}

/** Writes an argument so that {@link parseArguments} reads the same one. */
export function printArgument({ name, type, fetch }: ProgramArgument): string {
  return `${name}=${printFetch(fetch)}${type === defaultTypeOf(fetch) ? '' : `:${type}`}`;
}

function parseArgument(
  text: string,
  word: Word,
  index: number,
  used: ReadonlySet<string>,
): ProgramArgument {
  if (word.text === 'if') throw refusal(text, word.column, 'laterFilter');
  const equals = word.text.indexOf('=');
  if (equals > MAX_ARGUMENT_NAME) throw refusal(text, word.column, 'argumentNameTooLong');
  if (equals === 0) throw refusal(text, word.column, 'noArgumentName', 'write NAME=FETCH');
  const name = equals < 0 ? `arg${index + 1}` : word.text.slice(0, equals);
  if (!/^[A-Za-z_]\w*$/.test(name)) throw refusal(text, word.column, 'badArgumentName');
  if (used.has(name)) throw refusal(text, word.column, 'usedArgumentName');
  const body = { text: word.text.slice(equals + 1), column: word.column + equals + 1 };
  return { name, ...parseBody(text, body) };
}

/** Parses `FETCH[:TYPE]`; looks at the type first, because the kernel does. */
function parseBody(text: string, body: Word): { type: FieldType; fetch: Fetch } {
  if (body.text.length > MAX_ARGUMENT_TEXT) throw refusal(text, body.column, 'argumentTooLong');
  if (body.text === '') throw refusal(text, body.column, 'noArgumentBody');
  const colon = body.text.indexOf(':');
  const typeText = colon < 0 ? undefined : body.text.slice(colon + 1);
  const typeColumn = body.column + colon + 1;
  const expression = {
    text: colon < 0 ? body.text : body.text.slice(0, colon),
    column: body.column,
  };
  const isComm = expression.text === '$comm' || expression.text === '$COMM';
  if (isComm && typeText !== undefined && typeText !== 'string') {
    throw refusal(text, typeColumn, 'needsString');
  }
  const asked = typeText === undefined ? undefined : parseType(text, typeText, typeColumn);
  const fetch = parseFetch(text, expression);
  const type = asked ?? defaultTypeOf(fetch);
  if (type === 'string' && (fetch.kind === 'register' || fetch.kind === 'stack')) {
    throw refusal(
      text,
      typeColumn,
      'stringOfRegister',
      `for a string that it points to, write +0(${expression.text}):string`,
    );
  }
  return { type, fetch };
}

function parseType(text: string, name: string, column: number): FieldType {
  const type = typeByName(name);
  if (type !== undefined) return type;
  const bracket = name.indexOf('[');
  if (bracket >= 0) throw refusal(text, column + bracket, 'laterArray');
  if (isLaterType(name)) throw refusal(text, column, 'laterType');
  throw refusal(text, column, 'badType', `the types are ${FIELD_TYPES.join(' ')}`);
}

function defaultTypeOf(fetch: Fetch): FieldType {
  return fetch.kind === 'comm' ? 'string' : DEFAULT_TYPE;
}
