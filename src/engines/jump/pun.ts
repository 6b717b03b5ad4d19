/** Puns: jumps of which the first bytes are ours and the others are the next instructions'. */

import type { Address } from '../../base/brand.ts';
import type { OriginRange } from './arena.ts';
import { JUMP_BYTES } from './patches.ts';

/** Where the jump of a pun can lead, behind so many prefixes. */
export interface PunGoals extends OriginRange {
  readonly prefixBytes: number;
}

/** Below this nothing can be mapped; user space ends at 2^47 with 4-level page tables. */
const LOWEST = 0x1_0000n;
const USER_END = 1n << 47n;

/**
 * Where a pun can lead, the widest range first. The displacement's low bytes are free as far as they are
 * written; each prefix moves all of them on by one, so that others are the fixed ones.
 * @param patchBytes bytes that may be written, 1 to 4
 * @param rest the bytes that follow them, as they are while the pun is in
 */
export function punGoals(at: Address, patchBytes: number, rest: Uint8Array): PunGoals[] {
  const goals: PunGoals[] = [];
  for (let prefixBytes = 0; prefixBytes < patchBytes; prefixBytes++) {
    const free = patchBytes - 1 - prefixBytes;
    const fixed = rest.subarray(0, 4 - free);
    if (fixed.byteLength < 4 - free) break;
    const bytes = new Uint8Array(4);
    bytes.set(fixed, free);
    const distance = new DataView(bytes.buffer).getInt32(0, true);
    const first = at + BigInt(prefixBytes + JUMP_BYTES + distance);
    const last = first + (1n << BigInt(8 * free)) - 1n;
    if (last < LOWEST || first >= USER_END) continue;
    goals.push({ prefixBytes, first: first < LOWEST ? LOWEST : first, last });
  }
  return goals;
}
