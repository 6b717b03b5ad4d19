/** Which functions of a file can be named in a probe. */

import { withTracer } from '../reports/maintenance.ts';
import type { FunctionList, ListRequest } from '../types.ts';

/**
 * The functions of a file, with those of its debug file if it is stripped and has one on this machine.
 * @param file a path, or the name of a program in PATH or of a library where the loader looks
 * @throws TraplineError `no-file`, `bad-elf`, `unsupported`.
 */
export async function listFunctions(
  file: string,
  request: ListRequest = {},
): Promise<FunctionList> {
  return withTracer((client) => client.call('list', file, request));
}
