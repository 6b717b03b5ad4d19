/** Writes to a target's memory, gathered so that few calls make them. */

import { address, type Address } from '../../base/brand.ts';

/** Bytes for an address of the target. */
export interface CodeWrite {
  readonly address: Address;
  readonly bytes: Uint8Array;
}

/**
 * Merges writes that touch each other. Later ones win where two overlap.
 * @returns as few writes as possible, in order of address.
 */
export function coalesce(writes: readonly CodeWrite[]): CodeWrite[] {
  const sorted = writes
    .map((write, order) => ({ ...write, order }))
    .sort((left, right) =>
      left.address === right.address
        ? left.order - right.order
        : left.address < right.address
          ? -1
          : 1,
    );
  const merged: CodeWrite[] = [];
  let group: typeof sorted = [];
  let end = 0n;
  const finish = (): void => {
    const first = group[0];
    if (first === undefined) return;
    const bytes = new Uint8Array(Number(end - first.address));
    for (const write of group.sort((left, right) => left.order - right.order)) {
      bytes.set(write.bytes, Number(write.address - first.address));
    }
    merged.push({ address: address(first.address), bytes });
  };
  for (const write of sorted) {
    if (group.length > 0 && write.address > end) {
      finish();
      group = [];
    }
    if (group.length === 0) end = write.address;
    group.push(write);
    const writeEnd = write.address + BigInt(write.bytes.byteLength);
    if (writeEnd > end) end = writeEnd;
  }
  finish();
  return merged;
}
