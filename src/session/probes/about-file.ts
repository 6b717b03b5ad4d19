/** What is wrong with the file that a definition names, shown at its name. */

import { TraplineError } from '../../base/errors.ts';
import type { ProbeDefinition } from '../../probe/definition.ts';
import { placeColumns } from '../../probe/place-columns.ts';

/**
 * Does something with the file that a definition names.
 * @throws TraplineError as `work` does, with a position in the definition.
 */
export function aboutFile<T>({ text }: ProbeDefinition, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof TraplineError) || error.position !== undefined) throw error;
    const { code, message, hint, errno } = error;
    throw new TraplineError({
      code,
      message,
      ...(hint === undefined ? {} : { hint }),
      ...(errno === undefined ? {} : { errno }),
      position: { text, column: placeColumns(text).file },
      cause: error,
    });
  }
}
