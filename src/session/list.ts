/** Which functions of a file can be named in a probe. */

import { TraplineError } from '../base/errors.ts';
import type { ListedFunction } from './types.ts';

/** The functions of a file, all or those that a glob matches, by offset. */
export async function listFunctions(_file: string, _glob?: string): Promise<ListedFunction[]> {
  throw new TraplineError({ code: 'internal', message: 'internal error: not there yet' });
}
