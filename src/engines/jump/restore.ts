/** Putting the file's bytes back where our jumps are. */

import { hex } from '../../base/brand.ts';
import type { SiteRow } from '../../process/control.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import { readMany } from '../../process/read-many.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { JUMP_BYTES } from './planner.ts';

/** Of `jmp rel32`. */
const JUMP_OPCODE = 0xe9;

/** The file's own bytes at a site, or undefined when the file can't be read any more. */
export type OriginalBytes = (site: SiteRow) => Uint8Array | undefined;

/** Puts the file's bytes back. @returns the sites at which that is done, and what is wrong at others. */
export function restoreSites(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  sites: readonly SiteRow[],
  original: OriginalBytes,
): { readonly restored: readonly SiteRow[]; readonly problems: readonly string[] } {
  const problems: string[] = [];
  // Unloaded, and perhaps something else mapped there: our jump went with it.
  const isThere = (site: SiteRow): boolean => findMapping(maps, site.address)?.inode === site.inode;
  const mapped = new Set(sites.filter(isThere));
  const found = readMany(
    stopped,
    [...mapped].map(({ address: at }) => ({ address: at, length: JUMP_BYTES })),
  );
  let nth = 0;
  const restored = sites.filter((site) => {
    const bytes = mapped.has(site) ? found[nth++] : undefined;
    const problem = bytes === undefined ? undefined : restoreSite(stopped, site, bytes, original);
    // Whoever changed the bytes may put our jump back: its stub stays, and does nothing.
    if (problem !== undefined) problems.push(problem);
    return problem === undefined;
  });
  return { restored, problems };
}

/** @returns what is wrong, if it can't put the file's bytes back. */
function restoreSite(
  stopped: StoppedProcess,
  site: SiteRow,
  found: Uint8Array,
  original: OriginalBytes,
): string | undefined {
  const where = (): string => `${hex(site.address)} of process ${stopped.pid}`;
  const bytes = original(site)?.subarray(0, JUMP_BYTES);
  if (bytes === undefined) return `the file of the site at ${where()} can't be read any more`;
  if (Buffer.compare(found, bytes) === 0) return undefined;
  if (!isJumpTo(found, site)) {
    return `somebody else changed the code at ${where()}: ${Buffer.from(found).toString('hex')}`;
  }
  stopped.write(site.address, bytes);
  return undefined;
}

/** Whether bytes at a site are the jump that we wrote there. */
function isJumpTo(bytes: Uint8Array, { address: at, stub }: SiteRow): boolean {
  const distance = new DataView(bytes.buffer, bytes.byteOffset, JUMP_BYTES).getInt32(1, true);
  return bytes[0] === JUMP_OPCODE && at + BigInt(JUMP_BYTES + distance) === stub;
}
