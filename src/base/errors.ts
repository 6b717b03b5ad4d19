/** One error type for everything that a person can be told. */

import { printable, widthOf } from './text.ts';

/**
 * What went wrong, for machines. Codes are stable: they are part of the public API.
 *
 * - `usage`            the words of a command or an option don't fit
 * - `bad-definition`   a probe definition can't be parsed (see {@link SourcePosition})
 * - `bad-elf`          a file is not ELF, or contradicts itself
 * - `bad-input`        other input that contradicts itself
 * - `no-file`          a file that was named isn't there, or isn't mapped by the target
 * - `no-symbol`        a function isn't in the file (near names are in the hint)
 * - `no-process`       a process isn't there (any more)
 * - `not-permitted`    the system forbids it; the hint says what would allow it
 * - `busy`             somebody else is there: another ptracer, foreign bytes at the site
 * - `refused`          it could be done but would not be safe; the message says why
 * - `unsupported`      this kernel, processor or program lacks what is needed
 * - `limit`            one of our bounds was reached
 * - `system`           a system call failed unexpectedly; `errno` names the error
 * - `internal`         a defect of ours
 */
export type ErrorCode =
  | 'usage'
  | 'bad-definition'
  | 'bad-elf'
  | 'bad-input'
  | 'no-file'
  | 'no-symbol'
  | 'no-process'
  | 'not-permitted'
  | 'busy'
  | 'refused'
  | 'unsupported'
  | 'limit'
  | 'system'
  | 'internal';

/** Where in a text that somebody wrote an error lies. */
export interface SourcePosition {
  /** The whole text. */
  readonly text: string;
  /** Index in `text` of the first offending character, from 0. */
  readonly column: number;
}

/** What {@link TraplineError} is made from. */
export interface ErrorDetails {
  readonly code: ErrorCode;
  /** What was asked and what is wrong, without a final full stop. */
  readonly message: string;
  /** What the person may do next. */
  readonly hint?: string;
  readonly position?: SourcePosition;
  /** The errno's name ("EPERM") where a system call failed. */
  readonly errno?: string;
  readonly cause?: unknown;
}

/** Every error that Trapline throws on purpose. Anything else that escapes is a defect. */
export class TraplineError extends Error {
  override readonly name = 'TraplineError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly position: SourcePosition | undefined;
  readonly errno: string | undefined;

  constructor(details: ErrorDetails) {
    super(details.message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = details.code;
    this.hint = details.hint;
    this.position = details.position;
    this.errno = details.errno;
  }

  /** The error as a person at a terminal should see it: message, caret, hint; several lines. */
  render(): string {
    const lines = [this.message];
    if (this.position !== undefined) {
      const { text, column } = this.position;
      const before = widthOf(printable(text.slice(0, column)));
      lines.push(`  ${printable(text)}`, `  ${' '.repeat(before)}^`);
    }
    if (this.hint !== undefined) lines.push(...this.hint.split('\n').map((line) => `  ${line}`));
    return lines.join('\n');
  }

  /** The parts that survive a message between threads; {@link TraplineError.revive} is its pair. */
  toDetails(): ErrorDetails {
    return {
      code: this.code,
      message: this.message,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.position === undefined ? {} : { position: this.position }),
      ...(this.errno === undefined ? {} : { errno: this.errno }),
    };
  }

  /** The error that {@link TraplineError.toDetails} took apart. */
  static revive(details: ErrorDetails): TraplineError {
    // A class that names itself is renamed when it is bundled, and Node prints that name.
    return new this(details);
  }
}

/**
 * The message of anything that was thrown.
 * @returns `error.message` for errors, the text of everything else.
 */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** @throws TraplineError `internal` unless `condition` holds: an assertion that stays in releases. */
export function ensure(condition: boolean, message: string): asserts condition {
  if (!condition)
    throw new TraplineError({ code: 'internal', message: `internal error: ${message}` });
}

/** For the end of an exhaustive switch: compiles only when nothing is left. */
export function unreachable(value: never): never {
  throw new TraplineError({
    code: 'internal',
    message: `internal error: unexpected ${String(value)}`,
  });
}
