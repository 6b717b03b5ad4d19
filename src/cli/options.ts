/** Values of options, from text. Each throws a TraplineError `usage` that points at what is wrong. */

import { readFileSync } from 'node:fs';

import type { Command } from 'commander';

import { TraplineError } from '../base/errors.ts';
import { parseDuration } from '../screen/numbers.ts';

/** PID_MAX_LIMIT of a 64-bit kernel (include/linux/threads.h). */
const MAX_PID = 4 * 1024 * 1024;
/** (uid_t)-1 is no user. */
const MAX_UID = 2 ** 32 - 2;
/** A timer of Node counts milliseconds in 31 bits. */
const MAX_DURATION = 0x7fff_ffff * 1e6;
const MIN_RING = 256 * 1024;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** `-p 1,2 -p 3`: adds the numbers of one option to those of the earlier ones. */
export function parsePids(text: string, earlier: readonly number[] = []): number[] {
  let column = 0;
  const numbers = text.split(',').map((part) => {
    const number = Number(part);
    if (!/^\d{1,7}$/.test(part) || number < 1 || number > MAX_PID) {
      throw wrong(text, column, `'${part}' is not a process or task number`, 'write -p 1234');
    }
    column += part.length + 1;
    return number;
  });
  return [...earlier, ...numbers];
}

/** `--uid 0,1000`, `--uid postgres`: user ids, by number or by name. */
export function parseUids(text: string, earlier: readonly number[] = []): number[] {
  let column = 0;
  const numbers = text.split(',').map((part) => {
    const number = /^\d{1,10}$/.test(part) ? Number(part) : uidOf(part);
    if (number === undefined || number > MAX_UID) {
      throw wrong(
        text,
        column,
        `there is no user '${part}'`,
        'write a number, or a name of /etc/passwd',
      );
    }
    column += part.length + 1;
    return number;
  });
  return [...earlier, ...numbers];
}

/** By passwd(5). */
function uidOf(name: string): number | undefined {
  let text: string;
  try {
    text = readFileSync('/etc/passwd', 'utf8');
  } catch {
    return undefined; // no names here
  }
  const fields = text.split('\n').map((line) => line.split(':'));
  const found = fields.find(([first]) => first === name)?.[2];
  return found === undefined || name === '' ? undefined : Number(found);
}

/** A text of an option that may be given several times. */
export function collect(text: string, earlier: readonly string[] = []): string[] {
  return [...earlier, text];
}

/** Options with these values collect what they are given. */
const COLLECTING: ReadonlySet<unknown> = new Set([parsePids, parseUids, collect]);

/**
 * Refuses options that are given again with another value, and would silently replace the earlier one. What collects
 * is left alone, and so is what is only said twice.
 */
export function refuseReplacing(command: Command): void {
  const given = new Map<string, string>();
  for (const option of command.options.filter(({ parseArg }) => !COLLECTING.has(parseArg))) {
    const flag = option.long ?? option.flags;
    command.on(`option:${option.name()}`, (value: unknown) => {
      const now = typeof value === 'string' ? `${flag} ${value}` : flag;
      const before = given.get(option.attributeName());
      given.set(option.attributeName(), now);
      if (before !== undefined && before !== now) throw replaced(before, now);
    });
  }
}

function replaced(before: string, now: string): TraplineError {
  return new TraplineError({
    code: 'usage',
    message: `${now} after ${before}: only one of them can hold`,
    hint: 'leave one of them out',
  });
}

/** `-n COUNT`, from 1. */
export function parseCount(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 1 || !Number.isSafeInteger(count)) {
    throw wrong(text, 0, `'${text}' is not a number of events`, 'write a whole number from 1 on');
  }
  return count;
}

/** `--duration 5s`: nanoseconds, above 0, at most what a timer takes (24 days). */
export function parseTime(text: string): number {
  const duration = parseDuration(text);
  if (duration <= 0) throw wrong(text, 0, `'${text}' is no time at all`, 'write 5s or 200ms');
  if (duration > MAX_DURATION) throw wrong(text, 0, `'${text}' is too long`, '24 days at most');
  return duration;
}

/** A size in bytes: `4096`, `256K`, `1M`, `1.5G`; also `KiB` and `KB`, all in powers of 1024. */
export function parseSize(text: string): number {
  const [, amount = '', unit = ''] = /^(\d+(?:\.\d+)?)([KMG]?)(?:iB|B)?$/i.exec(text) ?? [];
  const bytes = Number(amount) * (UNITS[unit.toUpperCase()] ?? NaN);
  if (amount === '' || !Number.isSafeInteger(bytes) || bytes < 1) {
    throw wrong(text, 0, `'${text}' is not a size`, 'write bytes, or 256K, 1M, 2G');
  }
  return bytes;
}

/** `--ring-size`: a power of two from 256 KiB to 1 GiB. */
export function parseRingSize(text: string): number {
  const bytes = parseSize(text);
  if (!Number.isInteger(Math.log2(bytes)) || bytes < MIN_RING || bytes > 2 ** 30) {
    throw wrong(text, 0, `a ring can't have ${text}`, 'a power of two: 256K, 512K, 1M … 1G');
  }
  return bytes;
}

/** `--engine`: the one that there will be is told apart from those that there won't. */
export function parseEngine(text: string): 'auto' | 'jump' | 'kernel' {
  if (text === 'auto' || text === 'jump' || text === 'kernel') return text;
  const what =
    text === 'trap' ? `the engine '${text}' comes in a later version` : `no engine '${text}'`;
  throw wrong(text, 0, what, 'this version has jump (which auto takes) and kernel');
}

/** `--format`. */
export function parseFormat(text: string): 'text' | 'json' {
  if (text === 'text' || text === 'json') return text;
  throw wrong(text, 0, `no format '${text}'`, 'the formats are text and json');
}

function wrong(text: string, column: number, message: string, hint: string): TraplineError {
  return new TraplineError({ code: 'usage', message, hint, position: { text, column } });
}
