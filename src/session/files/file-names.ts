/** What a name that a person gave means among the files that a process maps; docs/probes.md, FILE. */

import { readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, delimiter, dirname, join, resolve } from 'node:path';

import type { Pid } from '../../base/brand.ts';
import { debugLog } from '../../base/debug.ts';
import { TraplineError } from '../../base/errors.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { visibleTask } from '../../process/tasks.ts';
import { isFile, type FileCache, type MappedFile } from './files.ts';
import { leadsTo } from './same-file.ts';

const log = debugLog('session');

/**
 * A test of mappings by path alone: the file's own name, where a path or a command of that name leads
 * (`python3` is mapped as `python3.11`), a library's name without its version.
 */
export function fileMatcher(name: string): (mapping: MemoryMapping) => boolean {
  const places = name.includes('/') ? [realPath(resolve(name))] : commandPaths(name);
  const isLibrary = /\.so(?:\.|$)/.test(name);
  return (mapping) => {
    if (!isFile(mapping)) return false;
    if (mapping.path === name || places.includes(mapping.path)) return true;
    if (name.includes('/')) return false;
    const base = basename(mapping.path);
    return (
      base === name || base.startsWith(`${name}.so`) || (isLibrary && base.startsWith(`${name}.`))
    );
  };
}

/**
 * The mapped files that a name means, each once; those with executable parts only. What no path
 * answers to is looked for by identity (another name of the same file, or the target's own view of paths), as
 * the name that the program was started by, and by the name that libraries give themselves (DT_SONAME).
 * @throws TraplineError `no-file`, `bad-elf`, `unsupported` for a file that is meant and can't be read.
 */
export function filesNamed(
  pid: Pid,
  maps: readonly MemoryMapping[],
  name: string,
  files: FileCache,
): readonly MappedFile[] {
  // Thousands of probes may name one file.
  let known = files.named.get(maps);
  if (known === undefined) files.named.set(maps, (known = new Map()));
  let found = known.get(name);
  if (found === undefined) known.set(name, (found = lookUp(pid, maps, name, files)));
  return found;
}

function lookUp(
  pid: Pid,
  maps: readonly MemoryMapping[],
  name: string,
  files: FileCache,
): MappedFile[] {
  const code = maps.filter((mapping) => mapping.executable && isFile(mapping));
  const ways = name.includes('/')
    ? [fileMatcher(name), sameFileAs(pid, name)]
    : [fileMatcher(name), startedAs(pid, name), calledBySelf(pid, name, files)];
  for (const matches of ways) {
    const found = new Set<MappedFile>();
    for (const mapping of code) if (matches(mapping)) found.add(files.open(pid, mapping));
    if (found.size > 0) return [...found];
  }
  return [];
}

/** By the file that a path leads to, for us or for the target, whatever the mapping calls it. */
function sameFileAs(pid: Pid, name: string): (mapping: MemoryMapping) => boolean {
  const root = `/proc/${visibleTask(pid)}/root`;
  const paths = [resolve(name), ...(name.startsWith('/') ? [`${root}${name}`] : [])];
  return (mapping) => paths.some((path) => leadsTo(path, mapping));
}

/** The program itself, by the name in its command line (`argv[0]`). */
function startedAs(pid: Pid, name: string): (mapping: MemoryMapping) => boolean {
  try {
    const task = visibleTask(pid);
    const [first = ''] = readFileSync(`/proc/${task}/cmdline`, 'utf8').split('\0', 1);
    if (basename(first) !== name) return () => false;
    const program = readlinkSync(`/proc/${task}/exe`).replace(/ \(deleted\)$/, '');
    return ({ path }) => path === program;
  } catch {
    return () => false; // gone, or not ours to look at
  }
}

/** Libraries by DT_SONAME: `libc.so.6` may be a file `libc-2.31.so`. */
function calledBySelf(
  pid: Pid,
  name: string,
  files: FileCache,
): (mapping: MemoryMapping) => boolean {
  if (!/^lib|\.so(?:\.|$)/.test(name)) return () => false;
  return (mapping) => {
    if (!/\.so(?:\.|$)/.test(mapping.path)) return false;
    try {
      const { soname = '' } = files.open(pid, mapping).elf;
      return soname === name || soname.startsWith(`${name}.so`);
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      log('cannot ask %s for its name: %s', mapping.path, error.message);
      return false; // it is not known to be the one that is meant
    }
  };
}

/** Where a path leads; of one that is gone (a file that was replaced), where it led. */
function realPath(path: string): string | undefined {
  for (const [folder, rest] of [
    [path, ''],
    [dirname(path), basename(path)],
  ] as const) {
    try {
      return join(realpathSync(folder), rest);
    } catch {
      continue; // not there for us: the target may see it under this name
    }
  }
  return undefined;
}

/** Where the commands of that name in PATH lead. */
function commandPaths(name: string): string[] {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders.flatMap((folder) => {
    try {
      return [realpathSync(join(folder, name))];
    } catch {
      return []; // no such command there
    }
  });
}
