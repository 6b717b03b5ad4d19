/** Where a blob can lie: executable bytes of the target that it never executes. */

import { address, type Address } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { findMapping, type MemoryMapping } from './maps.ts';
import { findWords } from './stacks.ts';
import { type StoppedProcess } from './stop.ts';

/**
 * Bytes that are mapped executable and never executed, within one mapping: the tail of the last page
 * of an executable segment, past its p_filesz; or the entry point of a program that is past its start.
 */
export interface BlobPlace {
  readonly address: Address;
  /** What belongs there, from the file; zeros past the file's end. As long as the place. */
  readonly original: Uint8Array;
}

/**
 * Picks the first place that a blob fits and that nobody stands in.
 * @param bytes how long the blob is; 1 KiB serves a batch of ten calls
 * @throws TraplineError `unsupported` when there is none; `busy` when there is one, but a task is still
 * on its way through the blob that a killed tracer left there.
 */
export function findBlobPlace(
  stopped: StoppedProcess,
  candidates: readonly BlobPlace[],
  bytes: number,
  maps: readonly MemoryMapping[] = stopped.maps(),
): BlobPlace {
  const fitting = candidates.filter((place) => {
    if (place.original.byteLength < bytes) return false;
    const mapping = findMapping(maps, place.address);
    return (
      mapping !== undefined &&
      mapping.executable &&
      !mapping.shared &&
      place.address + BigInt(place.original.byteLength) <= mapping.end
    );
  });
  const free = fitting.find((place) => !isInUse(stopped, place));
  if (free !== undefined) return free;
  throw new TraplineError(
    fitting.length > 0
      ? {
          code: 'busy',
          message: `a task of process ${stopped.pid} still runs what a killed session left`,
          hint: 'it ends by itself: try again',
        }
      : {
          code: 'unsupported',
          message: `process ${stopped.pid} has no ${bytes} unused bytes of executable memory`,
        },
  );
}

/** Whether something other than the file's own bytes is there: a blob whose tracer was killed. */
export function blobPlaceIsDirty(stopped: StoppedProcess, place: BlobPlace): boolean {
  const found = stopped.read(place.address, place.original.byteLength);
  return Buffer.compare(found, place.original) !== 0;
}

/**
 * Puts the file's bytes back where a killed tracer left a blob.
 * @returns false when a task still stands in it, and nothing was done.
 */
export function cleanBlobPlace(stopped: StoppedProcess, place: BlobPlace): boolean {
  if (!blobPlaceIsDirty(stopped, place)) return true;
  if (isInUse(stopped, place)) return false;
  stopped.write(place.address, place.original);
  return true;
}

/** A blob keeps off the stack, but a signal's frame on top of it holds its address. */
function isInUse(stopped: StoppedProcess, place: BlobPlace): boolean {
  const start = place.address;
  const end = address(start + BigInt(place.original.byteLength));
  const inside = stopped.tasks.some((task) => {
    const rip = task.registers.get('rip');
    return rip >= start && rip < end;
  });
  if (inside) return true;
  return blobPlaceIsDirty(stopped, place) && findWords(stopped, [{ start, end }]).length > 0;
}
