/**
 * Which sites that rows describe have their bytes in the text: a tracer that was killed between its writes leaves
 * rows of sites that it did not make, or had just taken out.
 */

import type { AddressRange } from '../../process/free-space.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import { readMany } from '../../process/read-many.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import type { OriginalBytes } from './restore.ts';
import { JUMP_BYTES, patchOf, patchRange, type PatchMap } from './patches.ts';

/**
 * The sites near some places whose patch is not in the text, as far as no lower site lies over it.
 * @param original given, only those count in whose stead the file's bytes are, or a higher site's: where somebody
 * else has changed some, the patch may come back
 */
export function findAbsent(
  stopped: StoppedProcess,
  sites: PatchMap,
  places: readonly AddressRange[],
  original?: OriginalBytes,
): ReadonlySet<SiteRow> {
  const near = new Set(places.flatMap((place) => sites.near(place)));
  const ascending = [...near].sort((one, other) => (one.address < other.address ? -1 : 1));
  const found = readMany(
    stopped,
    ascending.map(({ address, patchBytes }) => ({ address, length: patchBytes })),
  );
  const absent = new Set<SiteRow>();
  ascending.forEach((row, index) => {
    const bytes = found[index] ?? new Uint8Array();
    // Nearly all, and no site over them can be a reason to doubt it.
    if (Buffer.compare(bytes, patchOf(row)) === 0) return;
    const lower = neighbours(ascending, index, -1).filter(
      (other) => !absent.has(other) && other.address < row.address,
    );
    const open = [...patchOf(row).entries()].filter(([at]) => {
      const where = row.address + BigInt(at);
      return !lower.some((other) => patchRange(other).end > where);
    });
    const byteAt = (at: number): number => bytes[at] ?? -1;
    if (open.every(([at, byte]) => byteAt(at) === byte)) return;
    const higher = neighbours(ascending, index, 1);
    const files = original?.(row, row.patchBytes);
    const isUntouched = ([at]: readonly [number, number]): boolean =>
      byteAt(at) === files?.[at] ||
      higher.some(
        (other) => patchOf(other)[at - Number(other.address - row.address)] === byteAt(at),
      );
    if (original === undefined || open.every(isUntouched)) absent.add(row);
  });
  return absent;
}

/** The sites before or behind one, in order of address, that can have a byte in common with it. */
function neighbours(ascending: readonly SiteRow[], index: number, step: 1 | -1): SiteRow[] {
  const from = ascending[index]?.address ?? 0n;
  const near: SiteRow[] = [];
  for (let at = index + step; ; at += step) {
    const other = ascending[at];
    if (other === undefined) return near;
    const distance = (other.address - from) * BigInt(step);
    if (distance > BigInt(JUMP_BYTES)) return near;
    near.push(other);
  }
}
