/**
 * Finds separate debug files on this machine: by build id where distributions install them, in the cache that clients of
 * debuginfod keep, and by the name that a stripped file has of its own (gdb's manual, "Separate Debug Files"). The same for
 * the common file, which has what `dwz` found in several of them. Nothing is downloaded.
 */

import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

import { debugLog } from '../../base/debug.ts';
import { messageOf, TraplineError } from '../../base/errors.ts';
import { zlib } from '../../base/zlib.ts';
import { DebugFile, type Pieces } from '../../symbols/debug-file.ts';
import { commonLink, debugLink, type CommonLink } from '../../symbols/debug-link.ts';
import type { ElfFile } from '../../symbols/elf.ts';
import type { SectionedFile } from '../../symbols/elf-header.ts';

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
  /** What it is where it is not right. */
  readonly otherwise: string;
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
    return this.#first([...byBuildId(elf.buildId, place), ...byDebugLink(elf, place)]);
  }

  /**
   * The common file that a debug file names, or a file with debug information of its own; undefined when it is not there.
   * @param file as we see it: a path that is not absolute begins at its folder
   * @throws TraplineError when there is one that is damaged or another, and none that is right.
   */
  findCommon(file: SectionedFile, root: string): DebugFile | undefined {
    const link = commonLink(file);
    return link && this.#first(byCommonLink(link, file.name, root));
  }

  #first(candidates: readonly Candidate[]): DebugFile | undefined {
    let problem: TraplineError | undefined;
    for (const candidate of candidates) {
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

  #open({ path, isRight, otherwise }: Candidate): DebugFile | undefined {
    const identity = identityOf(path);
    // Empty: how the clients of debuginfod remember that a server has none.
    if (identity === undefined || identity.size === 0) return undefined;
    const key = `${identity.key} ${path}`;
    const file = this.#opened.get(key) ?? DebugFile.open(piecesOf(path, identity), path);
    // Of a file that was opened for another as well: what is right there need not be right here.
    if (!isRight(file, identity.size, path)) {
      throw new TraplineError({
        code: 'bad-elf',
        message: `${path} is ${otherwise}`,
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

const OTHER_BUILD = 'the debug file of another build';

function byBuildId(id: string | undefined, { root }: Pick<FilePlace, 'root'>): Candidate[] {
  if (id === undefined || id.length <= 2) return [];
  const path = `${DEBUG_FOLDER}/.build-id/${id.slice(0, 2)}/${id.slice(2)}.debug`;
  const paths = [
    ...new Set([root + path, path]),
    ...debuginfodCaches().map((folder) => join(folder, id, 'debuginfo')),
  ];
  // A file that was found by the id may still be another: the name is only somebody's promise.
  return paths.map((one) => ({
    path: one,
    isRight: ({ buildId }) => buildId === id,
    otherwise: OTHER_BUILD,
  }));
}

/** Where the link leads, then the same below `.dwz` where distributions install it (gdb's dwz.c), then by build id. */
function byCommonLink({ path, buildId }: CommonLink, from: string, root: string): Candidate[] {
  const installed = path.includes('/.dwz/')
    ? DEBUG_FOLDER + path.slice(path.lastIndexOf('/.dwz/'))
    : path;
  const paths = path.startsWith('/')
    ? [root + path, path]
    : foldersOf(from).map((one) => resolve(one, path));
  if (installed.startsWith('/')) paths.push(root + installed, installed);
  const named = [...new Set(paths)].map((one) => ({
    path: one,
    isRight: (file: DebugFile): boolean => file.buildId === buildId,
    otherwise: 'the common file of other debug files',
  }));
  return [...named, ...byBuildId(buildId, { root })];
}

/** By its name, and where links lead: what lies in `.build-id` may be but a link. */
function foldersOf(path: string): string[] {
  try {
    return [dirname(path), dirname(realpathSync(path))];
  } catch (error) {
    log('no real path of %s: %s', path, messageOf(error));
    return [dirname(path)];
  }
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
    otherwise: OTHER_BUILD,
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
  // Asked first: a link may lead to a device, whose open does something.
  if (!statSync(path).isFile()) return undefined;
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
