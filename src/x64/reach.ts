/** Which instructions of a function control comes to, by its own branches. */

import { isDirect } from './decode.ts';
import type { Listing } from './listing.ts';

const LOCK = 0xf0;

/**
 * Follows direct branches from some instructions of a function on. A call is taken to return, but into the function itself.
 * @param roots where something comes to, in bytes from the function's start; what is no instruction's start is passed over
 * @returns for each position of the listing 1 if it is reached, else 0
 */
export function reachedFrom(roots: readonly number[], listing: Listing): Uint8Array {
  const { code, count } = listing;
  const reached = new Uint8Array(count);
  const open = [...roots];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const first = listing.positionOf(at);
    if (first < 0) continue;
    for (let position = first; position < count && reached[position] === 0; position++) {
      reached[position] = 1;
      const flow = listing.flowAt(position);
      const goal = isDirect(flow) ? listing.targetAt(position) : undefined;
      if (goal !== undefined) {
        open.push(goal);
        // One over a lock prefix comes to the middle of the instruction.
        if (code[goal - 1] === LOCK) open.push(goal - 1);
      }
      if (listing.endsAt(position)) break;
    }
  }
  return reached;
}
