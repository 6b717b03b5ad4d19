/** Which instructions of a function control comes to, by its own branches. */

import { address } from '../base/brand.ts';
import { decodeAll, neverGoesOn } from './decode.ts';

const LOCK = 0xf0;

/**
 * Follows direct branches from some instructions of a function on. A call is taken to return.
 * @param roots where something comes to, counted as `start` is (file offsets, say); what is no instruction's start is
 * passed over
 * @param code the function, which lies at `start`
 * @returns where the instructions begin that are reached, counted likewise
 */
export function reachedFrom(
  roots: readonly number[],
  code: Uint8Array,
  start: number,
): ReadonlySet<number> {
  const all = decodeAll(code, address(BigInt(start)));
  const positions = new Map(all.map((instruction, index) => [Number(instruction.address), index]));
  const reached = new Set<number>();
  const open = [...roots];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    for (let index = positions.get(at) ?? all.length; index < all.length; index++) {
      const instruction = all[index];
      if (instruction === undefined || instruction.flow === 'invalid') break;
      const where = Number(instruction.address);
      if (reached.has(where)) break;
      reached.add(where);
      const { flow, target } = instruction;
      const branches = flow === 'jump' || flow === 'conditional' || flow === 'transaction';
      if (branches && target !== undefined) {
        const goal = Number(target);
        open.push(goal);
        // One over a lock prefix comes to the middle of the instruction.
        if (code[goal - 1 - start] === LOCK) open.push(goal - 1);
      }
      if (neverGoesOn(flow)) break;
    }
  }
  return reached;
}
