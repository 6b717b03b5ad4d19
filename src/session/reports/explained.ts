/** Why a place is probed as it is. */

import { withTracer } from './maintenance.ts';
import type { Explanation, ExplainRequest } from '../types.ts';

/**
 * Explains every place that a probe's definition means: what is there, who comes there, how it would be probed, why
 * not more cheaply, and what a hit would cost. Nothing is changed, and no process is stopped.
 * @param definition as {@link attach} takes it
 * @throws TraplineError `bad-definition`, `no-file`, `no-symbol`, `no-process`, `usage`.
 */
export async function explain(
  definition: string,
  request: ExplainRequest = {},
): Promise<readonly Explanation[]> {
  return withTracer((client) => client.call('explain', definition, request));
}
