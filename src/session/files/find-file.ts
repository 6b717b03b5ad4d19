/** Finds a program or library that is given by its name. */

import { accessSync, constants, readFileSync, readdirSync, statSync } from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';

import { TraplineError } from '../../base/errors.ts';
import { compileGlob } from '../../base/glob.ts';

/** Where the loader looks besides what /etc/ld.so.conf names (ld.so(8)), Debian's folders first. */
const FOLDERS = [
  '/lib/x86_64-linux-gnu',
  '/usr/lib/x86_64-linux-gnu',
  '/lib64',
  '/usr/lib64',
  '/lib',
  '/usr/lib',
];

/** Where names are looked for. */
export interface SearchPlaces {
  /** For programs. */
  readonly programs: readonly string[];
  /** For libraries. */
  readonly libraries: readonly string[];
}

/** PATH; and LD_LIBRARY_PATH, /etc/ld.so.conf and the loader's own folders. */
export function usualPlaces(environment: NodeJS.ProcessEnv = process.env): SearchPlaces {
  return {
    programs: foldersOf(environment['PATH']),
    libraries: [
      ...foldersOf(environment['LD_LIBRARY_PATH']),
      ...configured('/etc/ld.so.conf'),
      ...FOLDERS,
    ],
  };
}

/**
 * The path of a file. What holds a slash is a path already. Else a program in PATH, then a library, by
 * its whole name (`libc.so.6`) or without what follows `.so` (`libssl`), then a file in this folder.
 * @throws TraplineError `no-file`.
 */
export function findFile(name: string, places: SearchPlaces = usualPlaces()): string {
  if (name.includes('/')) return name;
  const program = places.programs.map((folder) => join(folder, name)).find(isExecutable);
  const found = program ?? findLibrary(name, places.libraries);
  if (found !== undefined) return found;
  if (isFileAt(name)) return name;
  throw new TraplineError({
    code: 'no-file',
    message: `no program and no library is called '${name}'`,
    hint: 'looked in PATH and in the folders of the loader; a path works too (./name)',
  });
}

/** As {@link findFile}; undefined where no program and no library is called so. */
export function findIfThere(name: string): string | undefined {
  try {
    return findFile(name);
  } catch (error) {
    if (!(error instanceof TraplineError) || error.code !== 'no-file') throw error;
    return undefined;
  }
}

function foldersOf(list: string | undefined): string[] {
  return (list ?? '').split(delimiter).filter((folder) => folder !== '');
}

function findLibrary(name: string, folders: readonly string[]): string | undefined {
  const whole = folders.map((folder) => join(folder, name)).find(isFileAt);
  if (whole !== undefined) return whole;
  for (const folder of folders) {
    const versions = namesIn(folder).filter((file) => file.startsWith(`${name}.so`));
    // The plain name first, then the shortest version: that is what programs ask the loader for.
    const [best] = versions.toSorted(
      (one, other) => one.length - other.length || (one < other ? -1 : 1),
    );
    if (best !== undefined && isFileAt(join(folder, best))) return join(folder, best);
  }
  return undefined;
}

/** The folders that a configuration of the loader names; `include` lines followed (ldconfig(8)). */
function configured(path: string, depth = 0): string[] {
  const text = textOf(path);
  return text.split('\n').flatMap((line): string[] => {
    const words = line.replace(/#.*/, '').trim().split(/\s+/);
    if (words[0] === 'include' && depth < 4) {
      return words.slice(1).flatMap((glob) => {
        const matches = compileGlob(basename(glob));
        const folder = dirname(glob);
        return namesIn(folder)
          .filter(matches)
          .flatMap((name) => configured(join(folder, name), depth + 1));
      });
    }
    return words[0]?.startsWith('/') === true ? [words[0]] : [];
  });
}

// Folders and files of the search that aren't there, or not for us, are simply not where it is.

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).toSorted();
  } catch {
    return [];
  }
}

/** Whether a path leads us to a regular file. */
export function isFileAt(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
  } catch {
    return false; // PATH may name folders that are closed to us
  }
}

function isExecutable(path: string): boolean {
  if (!isFileAt(path)) return false;
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
