/** From the words of a command line to an exit status. */

import type { CommanderError } from 'commander';

import { painterFor } from '../screen/colour.ts';
import { DescriptorMessages, ExitStatus, renderError, statusOf } from './messages.ts';
import { buildProgram } from './program.ts';

/** The words before and behind the first `--`; `command` is absent where there is none. */
export interface SplitWords {
  readonly own: readonly string[];
  readonly command?: readonly string[];
}

/** Takes the command that is to be started off the end: its options are none of ours. */
export function splitWords(words: readonly string[]): SplitWords {
  const at = words.indexOf('--');
  return at < 0 ? { own: words } : { own: words.slice(0, at), command: words.slice(at + 1) };
}

/**
 * Runs one command line, the words behind the program's name. Never throws: what goes wrong is said on
 * standard error.
 * @returns the exit status.
 */
export async function run(words: readonly string[]): Promise<number> {
  const { own, command } = splitWords(words);
  let status: number = ExitStatus.good;
  try {
    const program = buildProgram(command, (result) => {
      status = result;
    });
    await program.parseAsync(own, { from: 'user' });
    return status;
  } catch (error) {
    if (isCommanderError(error)) return error.exitCode === 0 ? ExitStatus.good : ExitStatus.usage;
    const verbose = own.includes('-v') || own.includes('--verbose');
    new DescriptorMessages().lines(renderError(error, painterFor(process.stderr), verbose));
    return statusOf(error);
  }
}

/** What commander throws where it would end the process; its text has been written already. */
function isCommanderError(error: unknown): error is CommanderError {
  return error instanceof Error && 'exitCode' in error && typeof error.exitCode === 'number';
}
