/** What the engine has to know about the files that a target maps, and where blobs can lie by it. */

import type { Pid } from '../../base/brand.ts';
import { findBlobPlace, type BlobPlace } from '../../process/blob-place.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { BLOB_BYTES } from './injection.ts';
import type { OriginalBytes } from './restore.ts';

/** What the engine has to know about the files that a target maps. */
export interface TargetFiles {
  /** Executable bytes that are never executed, most likely ones first. */
  blobPlaces(pid: Pid, maps: readonly MemoryMapping[]): readonly BlobPlace[];
  /** The file's own bytes at a site. */
  original(pid: Pid, maps: readonly MemoryMapping[]): OriginalBytes;
  /** Where the C library that these mappings show may keep a thread's id, relative to fs. */
  tidOffsets(pid: Pid, maps: readonly MemoryMapping[]): readonly number[];
}

/** Where a blob could lie, looked up before the stop: that reads files. */
export class BlobForesight {
  readonly #files: TargetFiles;
  readonly #maps: readonly MemoryMapping[];
  readonly #places: readonly BlobPlace[];

  constructor(files: TargetFiles, pid: Pid, maps: readonly MemoryMapping[]) {
    this.#files = files;
    this.#maps = maps;
    this.#places = files.blobPlaces(pid, maps);
  }

  /**
   * A place for a blob of {@link BLOB_BYTES}; looked up anew if a file is mapped otherwise by now.
   * @throws TraplineError as {@link findBlobPlace} does.
   */
  choose(stopped: StoppedProcess, maps: readonly MemoryMapping[]): BlobPlace {
    const holds = this.#places.every(({ address }) => {
      const then = findMapping(this.#maps, address);
      const now = findMapping(maps, address);
      return then !== undefined && now !== undefined && showsTheSame(then, now);
    });
    const places = holds ? this.#places : this.#files.blobPlaces(stopped.pid, maps);
    return findBlobPlace(stopped, places, BLOB_BYTES, maps);
  }
}

function showsTheSame(one: MemoryMapping, other: MemoryMapping): boolean {
  return (
    one.device === other.device &&
    one.inode === other.inode &&
    one.start - one.offset === other.start - other.offset
  );
}
