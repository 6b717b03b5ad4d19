/** The corpus of definitions with what the kernel makes of each. */

import { readFileSync } from 'node:fs';

/** What is made of a definition: its listing, or a refusal (without a column where the kernel says none). */
export type Outcome =
  | { readonly listing: string }
  | { readonly message: string; readonly column: number | undefined };

/** One definition of the corpus. */
export interface KernelCase {
  readonly text: string;
  readonly kernel: Outcome;
  /** What we make of it on purpose, and why; undefined where it is the same. */
  readonly ours: { readonly reason: string; readonly outcome: Outcome } | undefined;
}

/** Reads the corpus; its first lines say how it is written. */
export function readKernelCases(): KernelCase[] {
  const file = new URL('../../../../test/corpus/uprobe-definitions.txt', import.meta.url);
  return readFileSync(file, 'utf8')
    .split('\n\n')
    .map((block) => block.split('\n').filter((line) => line !== '' && !line.startsWith('#')))
    .filter((lines) => lines.length > 0)
    .map(([text = '', kernel = '', reason, outcome = '']) => ({
      text,
      kernel: outcomeOf(kernel),
      ours:
        reason === undefined
          ? undefined
          : { reason: reason.slice('~ '.length), outcome: outcomeOf(outcome) },
    }));
}

function outcomeOf(line: string): Outcome {
  if (line.startsWith('= ')) return { listing: line.slice(2) };
  const [, column, message = ''] = /^! ?(?:(\d+) (.*))?$/.exec(line) ?? [];
  return { message, column: column === undefined ? undefined : Number(column) };
}
