/** Errors about what was written somewhere: where that is. */

import { TraplineError } from '../../base/errors.ts';
import { placeColumns } from '../../probe/place-columns.ts';

/** What an error is about. */
export interface Written {
  readonly definition: string;
  /** Where it was written: `FILE:LINE`. */
  readonly origin?: string | undefined;
}

/**
 * Does something about what was written.
 * @throws as `work` does; a TraplineError is told with its place.
 */
export function aboutWritten<T>(written: Written, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw inPlace(error, written);
  }
}

/** An error as one about what was written: its place before the message, a caret below the definition. */
function inPlace(error: unknown, { definition: text, origin }: Written): unknown {
  if (!(error instanceof TraplineError) || origin === undefined) return error;
  // Who was nearer has said it.
  if (error.message.startsWith(`${origin}: `)) return error;
  const { position, ...details } = error.toDetails();
  return new TraplineError({
    ...details,
    message: `${origin}: ${error.message}`,
    position: position ?? { text, column: placeColumns(text).place },
    cause: error,
  });
}
