/** What is said on standard error: messages, summaries, errors. Events never go this way by accident. */

import { writeSync } from 'node:fs';
import { debuglog } from 'node:util';

import { messageOf, TraplineError } from '../base/errors.ts';
import type { Painter } from '../screen/colour.ts';
import { printable } from '../base/text.ts';

/** Exit statuses of our own; a command that was started gives its own instead. */
export const ExitStatus = { good: 0, error: 1, usage: 2 } as const;

/** Where text for people goes. */
export interface Messages {
  /** Writes whole lines. What they hold is shown as it is. */
  lines(lines: readonly string[]): void;
}

const STANDARD_ERROR = 2;
const RETRY_MILLISECONDS = 5;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Messages on a descriptor. What can't be written is dropped: there is nobody left to tell. */
export class DescriptorMessages implements Messages {
  readonly #descriptor: number;

  constructor(descriptor: number = STANDARD_ERROR) {
    this.#descriptor = descriptor;
  }

  lines(lines: readonly string[]): void {
    if (lines.length > 0) writeAll(this.#descriptor, `${lines.join('\n')}\n`);
  }
}

/**
 * Writes a short text at once, waiting where the descriptor is non-blocking and full.
 * @throws TraplineError `system` for a full disk and the like; not of standard error, where nobody could be told.
 */
export function writeAll(descriptor: number, text: string): void {
  const bytes = Buffer.from(text, 'utf8');
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(descriptor, bytes, at);
    } catch (error) {
      const code = errorCode(error);
      if (code === 'EPIPE' || code === 'EIO') return; // the reader is gone, and wants no more
      if (code !== 'EAGAIN') {
        if (descriptor === STANDARD_ERROR) return;
        throw cantWrite('standard output', error);
      }
      Atomics.wait(sleeper, 0, 0, RETRY_MILLISECONDS);
    }
  }
}

/** That something could not be written, for people. @param name of what it was to be written to */
export function cantWrite(name: string, cause: unknown): TraplineError {
  const errno = errorCode(cause);
  return new TraplineError({
    code: 'system',
    message: `can't write to ${name}: ${messageOf(cause)}`,
    ...(errno === undefined ? {} : { errno }),
    cause,
  });
}

/** The name of the errno of something that was thrown, if it has one. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** A message about what is going on: `trapline: …`, further lines indented by whoever wrote them. */
export function notice(text: string, paint: Painter): string {
  return `${paint.dim('trapline:')} ${printable(text)}`;
}

/**
 * An error as a person sees it: message, caret, hint for what was thrown on purpose; an apology for a
 * defect, with its stack when `verbose`, or when `NODE_DEBUG` names `trapline:cli`.
 */
export function renderError(error: unknown, paint: Painter, verbose = false): string[] {
  const prefix = paint.red('trapline:');
  if (error instanceof TraplineError && error.code !== 'internal') {
    const [first = '', ...rest] = error.render().split('\n').map(printable);
    return [`${prefix} ${first}`, ...rest];
  }
  const what = error instanceof Error ? error : new Error(String(error));
  const stack = verbose || debuglog('trapline:cli').enabled;
  const text = stack ? (what.stack ?? what.message) : what.message;
  const [first = '', ...rest] = text.split('\n').map(printable);
  const advice = stack ? [] : ['  run it again with -v, or NODE_DEBUG=trapline:*, for the details'];
  return [`${prefix} a defect of Trapline, sorry: ${first}`, ...rest, ...advice];
}

/** 2 where the words of the command line are wrong, 1 for everything else. */
export function statusOf(error: unknown): number {
  const wrongWords =
    error instanceof TraplineError && (error.code === 'usage' || error.code === 'bad-definition');
  return wrongWords ? ExitStatus.usage : ExitStatus.error;
}
