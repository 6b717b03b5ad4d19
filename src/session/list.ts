/** Which functions of a file can be named in a probe. */

import { withTracer } from './maintenance.ts';
import type { ListedFunction } from './types.ts';

/**
 * The functions of a file by offset, all names of each; with a glob only those it matches, by raw or
 * readable name.
 * @throws TraplineError `no-file`, `bad-elf`, `unsupported`.
 */
export async function listFunctions(
  file: string,
  glob?: string,
): Promise<readonly ListedFunction[]> {
  return withTracer((client) => client.call('list', file, glob));
}
