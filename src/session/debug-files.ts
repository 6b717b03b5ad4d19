/**
 * Finds separate debug files on this machine: by build id where distributions install them, in the cache that clients of
 * debuginfod keep, and by the name that a stripped file has of its own (gdb's manual, "Separate Debug Files"). Nothing is
 * downloaded.
 */

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

import { debugLog } from '../base/debug.ts';
import { messageOf, TraplineError } from '../base/errors.ts';
import { zlib } from '../base/zlib.ts';
import { DebugFile, type Pieces } from '../symbols/debug-file.ts';
import { debugLink } from '../symbols/debug-link.ts';
import type { ElfFile } from '../symbols/elf.ts';

const log = debugLog('session');

/** Where distributions install debug files. */
export const DEBUG_FOLDER = '/usr/lib/debug';
/** How much of a file is read at once for its checksum. */
const CHECKSUM_STEP = 1 << 20;
/** The largest file whose checksum is made: whoever owns the target's folder could keep us busy for days. */
const MAX_CHECKED_BYTES = 2 ** 32;

/** Where a file is, and what it sees as `/`. */
export interface FilePlace {
  /** As seen from `root`. */
  readonly path: string;
  /** `/proc/PID/root`, or empty for our own. */
  readonly root: string;
}

interface Candidate {
  readonly path: string;
  readonly isRight: (file: DebugFile, size: number, path: string) => boolean;
}

/** Debug files that were opened, each once as long as it stays the same file. */
export class DebugFiles {
  readonly #opened = new Map<string, DebugFile>();

  /**
   * The debug file of a file; undefined when there is none.
   * @throws TraplineError when there is one that is damaged or of another build, and no other.
   */
  find(elf: ElfFile, place: FilePlace): DebugFile | undefined {
    let problem: TraplineError | undefined;
    for (const candidate of [...byBuildId(elf, place), ...byDebugLink(elf, place)]) {
      try {
        const file = this.#open(candidate);
        if (file !== undefined) return file;
      } catch (error) {
        if (!(error instanceof TraplineError)) throw error;
        problem ??= error;
      }
    }
    if (problem !== undefined) throw problem;
    return undefined;
  }

  #open({ path, isRight }: Candidate): DebugFile | undefined {
    const identity = identityOf(path);
    // Empty: how the clients of debuginfod remember that a server has none.
    if (identity === undefined || identity.size === 0) return undefined;
    const key = `${identity.key} ${path}`;
    const known = this.#opened.get(key);
    if (known !== undefined) return known;
    const file = DebugFile.open(piecesOf(path, identity), path);
    if (!isRight(file, identity.size, path)) {
      throw new TraplineError({
        code: 'bad-elf',
        message: `${path} is the debug file of another build`,
        hint: 'install the debug file of the very version that is installed',
      });
    }
    log('debug file %s', path);
    this.#opened.set(key, file);
    return file;
  }
}

/** Folders in which clients of debuginfod keep what they downloaded (debuginfod_find_debuginfo(3)). */
export function debuginfodCaches(): string[] {
  const { DEBUGINFOD_CACHE_PATH: own, XDG_CACHE_HOME: cache } = process.env;
  if (own !== undefined && own !== '') return [own];
  const folder = cache === undefined || cache === '' ? join(homedir(), '.cache') : cache;
  return [join(folder, 'debuginfod_client'), join(homedir(), '.debuginfod_client_cache')];
}

function byBuildId(elf: ElfFile, { root }: FilePlace): Candidate[] {
  const id = elf.buildId;
  if (id === undefined || id.length <= 2) return [];
  const path = `${DEBUG_FOLDER}/.build-id/${id.slice(0, 2)}/${id.slice(2)}.debug`;
  const paths = [
    ...new Set([root + path, path]),
    ...debuginfodCaches().map((folder) => join(folder, id, 'debuginfo')),
  ];
  // A file that was found by the id may still be another: the name is only somebody's promise.
  return paths.map((one) => ({ path: one, isRight: ({ buildId }) => buildId === id }));
}

function byDebugLink(elf: ElfFile, { path, root }: FilePlace): Candidate[] {
  const link = debugLink(elf);
  if (link === undefined) return [];
  const folder = dirname(path);
  // A target below a changed root may have a path that only we see: then it is ours that leads there.
  const folders = [folder, `${folder}/.debug`, DEBUG_FOLDER + folder].flatMap((one) => [
    root + one,
    one,
  ]);
  return [...new Set(folders)].map((one) => ({
    path: join(one, link.file),
    isRight: (_, size, candidate) => checksumOf(candidate, size) === link.checksum,
  }));
}

interface Identity {
  readonly size: number;
  readonly key: string;
}

/** Undefined when there is no such file for us. */
function identityOf(path: string): Identity | undefined {
  try {
    return withFile(path, identityOfOpen);
  } catch (error) {
    log('no debug file %s: %s', path, messageOf(error));
    return undefined;
  }
}

function identityOfOpen(fd: number): Identity | undefined {
  const { dev, ino, size, mtimeNs } = fstatSync(fd, { bigint: true });
  return { size: Number(size), key: `${dev} ${ino} ${size} ${mtimeNs}` };
}

/** Does something with an open file; undefined if it is none (a pipe, whose open must not wait for a writer). */
function withFile<T>(path: string, act: (fd: number) => T): T | undefined {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return fstatSync(fd).isFile() ? act(fd) : undefined;
  } finally {
    closeSync(fd);
  }
}

/** Opens the file for each piece: few are read, at two moments that may be far apart. */
function piecesOf(path: string, identity: Identity): Pieces {
  return {
    size: identity.size,
    read: (offset, size) => {
      const bytes = new Uint8Array(size);
      const got = readOf(path, (fd) =>
        identityOfOpen(fd)?.key === identity.key ? readFully(fd, bytes, offset) : -1,
      );
      if (got === size) return bytes;
      throw new TraplineError({
        code: 'no-file',
        message: `${path} was changed while it was read`,
      });
    },
  };
}

function readOf(path: string, act: (fd: number) => number): number {
  try {
    return withFile(path, act) ?? -1;
  } catch (error) {
    throw new TraplineError({
      code: 'no-file',
      message: `${path} can't be read: ${messageOf(error)}`,
      cause: error,
    });
  }
}

function readFully(fd: number, bytes: Uint8Array, offset: number): number {
  let done = 0;
  while (done < bytes.byteLength) {
    const got = readSync(fd, bytes, done, bytes.byteLength - done, offset + done);
    if (got === 0) break;
    done += got;
  }
  return done;
}

/** CRC-32 of a whole file, in steps, so that its size costs no memory. @throws TraplineError `limit`, `no-file`. */
function checksumOf(path: string, size: number): number {
  if (size > MAX_CHECKED_BYTES) {
    throw new TraplineError({
      code: 'limit',
      message: `${path} has ${size} bytes, too many to make its checksum`,
      hint: 'A debug file that is found by the build id needs no checksum.',
    });
  }
  let checksum = 0;
  const step = new Uint8Array(Math.min(CHECKSUM_STEP, size));
  readOf(path, (fd) => {
    for (let at = 0; at < size; at += step.byteLength) {
      const got = readFully(fd, step, at);
      checksum = zlib().crc32(step.subarray(0, got), checksum);
      if (got < step.byteLength) break;
    }
    return 0;
  });
  return checksum;
}
