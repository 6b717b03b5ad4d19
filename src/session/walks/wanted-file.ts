/** The file that a location names, looked for among the mappings of any process. */

import { basename } from 'node:path';

import { TraplineError, unreachable } from '../../base/errors.ts';
import { debugLog } from '../../base/debug.ts';
import type { ProbeLocation } from '../../probe/location.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import { ownPid } from '../../sys/signals.ts';
import { fileMatcher } from '../files/file-names.ts';
import type { FileCache } from '../files/files.ts';
import { findFile } from '../files/find-file.ts';
import type { WalkedProcess } from './walk.ts';
import { mappingsOf } from '../files/whole-file.ts';

const log = debugLog('session');

/** Names of libraries, whatever their versions. */
const LIBRARY_NAME = /^lib[^/]*$|\.so(?:\.|$)/;

/** The files that many locations name: those of one name are one, and looked for once. */
export class WantedFiles {
  readonly #files: FileCache;
  readonly #byName = new Map<string, WantedFile>();

  constructor(files: FileCache) {
    this.#files = files;
  }

  /** The file of a location. */
  of(location: ProbeLocation): WantedFile {
    const name = nameOf(location);
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    const file = new WantedFile(location, this.#files);
    this.#byName.set(name, file);
    return file;
  }
}

function nameOf(location: ProbeLocation): string {
  switch (location.kind) {
    case 'function':
    case 'offset':
      return `file ${location.file}`;
    case 'inode':
      return `inode ${location.device}:${location.inode}`;
    case 'address':
      return `address ${location.pid} ${location.address}`;
  }
  return unreachable(location);
}

/** Finds where processes map a file: by its path, or because it is the very file that the name leads us to. */
export class WantedFile {
  readonly #location: ProbeLocation;
  readonly #files: FileCache;
  #isLibrary: boolean | undefined;
  readonly #matches: (mapping: MemoryMapping) => boolean;
  /** By what was read of a process's mappings: many probes ask. */
  readonly #found = new WeakMap<readonly MemoryMapping[], MemoryMapping[]>();

  constructor(location: ProbeLocation, files: FileCache) {
    this.#location = location;
    this.#files = files;
    this.#matches = matcherOf(location, files);
  }

  /** Whether a program that does not map it may load it later: the kernel alone maps programs. */
  get isLibrary(): boolean {
    return (this.#isLibrary ??= isLibrary(this.#location, this.#files));
  }

  /** A process's mappings of it. An address is one of the process that is named with it, and of no other. */
  mappingsIn(process: WalkedProcess): readonly MemoryMapping[] {
    let found = this.#found.get(process.maps);
    if (found === undefined) this.#found.set(process.maps, (found = this.#mappingsIn(process)));
    return found;
  }

  #mappingsIn({ pid, maps }: WalkedProcess): MemoryMapping[] {
    if (this.#location.kind === 'address') {
      if (this.#location.pid !== Number(pid)) return [];
      const found = findMapping(maps, this.#location.address);
      return found === undefined ? [] : [found];
    }
    return maps.filter((mapping) => mapping.executable && this.#matches(mapping));
  }
}

function matcherOf(location: ProbeLocation, files: FileCache): (mapping: MemoryMapping) => boolean {
  if (location.kind === 'address') return () => false;
  if (location.kind === 'inode') {
    return ({ device, inode }) => device === location.device && inode === location.inode;
  }
  const byName = fileMatcher(location.file);
  const [own] = ownMappings(location.file, files);
  if (own === undefined) return byName;
  // Not the mapping itself: its path keeps the whole text that it was cut from.
  const { inode, device } = own;
  return (mapping) => byName(mapping) || (mapping.inode === inode && mapping.device === device);
}

function isLibrary(location: ProbeLocation, files: FileCache): boolean {
  if (location.kind === 'address') return false;
  // Nobody knows what has this number, or will.
  if (location.kind === 'inode') return true;
  const [own] = ownMappings(location.file, files);
  if (own === undefined) return LIBRARY_NAME.test(basename(location.file));
  return files.open(ownPid(), own).elf.liesAmongLibraries;
}

/** None where the name leads us nowhere: it may be one that only a process answers to. */
function ownMappings(name: string, files: FileCache): readonly MemoryMapping[] {
  try {
    return mappingsOf(findFile(name), files);
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    log('%s is looked for by its name alone: %s', name, error.message);
    return [];
  }
}
