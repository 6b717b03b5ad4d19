/** What happens inside, on stderr, for `NODE_DEBUG=trapline:*` (or one layer of it). */

import { debuglog } from 'node:util';

/** One line of debug output; costs a call where its layer is off. */
export type DebugLog = (message: string, ...values: readonly unknown[]) => void;

/** The debug log of a layer: `NODE_DEBUG=trapline:LAYER` turns it on. Layers are folder names. */
export function debugLog(layer: string): DebugLog {
  return debuglog(`trapline:${layer}`);
}
