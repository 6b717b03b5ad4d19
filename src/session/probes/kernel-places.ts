/** Where the kernel engine puts a probe: at places of files, whoever maps them. */

import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';

import { address, type FileOffset, type Pid } from '../../base/brand.ts';
import { findProcesses, mapsIfReadable, readProcessMaps } from '../../engines/jump/spaces.ts';
import { isPatchedNop } from '../../engines/kernel/instruction.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { visibleTask } from '../../process/tasks.ts';
import { ownPid } from '../../sys/signals.ts';
import type { FileCache, MappedFile } from '../files/files.ts';
import { findIfThere, isFileAt } from '../files/find-file.ts';
import { mappingsOf } from '../files/whole-file.ts';
import { mappingMatcher } from '../targets/selection.ts';
import { aboutFile } from './about-file.ts';
import type { PlaceRegistry, ResolvedPlace } from './place-registry.ts';
import { EVERY_PROCESS, type ProbeAddition } from './probing.ts';
import { resolveIn } from './resolve-in.ts';

/** One place of a file, and the processes in which somebody asked for it. */
export interface WantedPlace {
  readonly place: ResolvedPlace;
  readonly seen: { readonly pid: number; readonly place: ResolvedPlace }[];
}

/** What one file, or one process, has of a definition. */
interface FoundPlaces {
  readonly pid: number;
  readonly places: readonly ResolvedPlace[];
}

/** A path for us, and the process that it leads to a file of. */
interface FileWay {
  readonly pid: Pid;
  readonly path: string;
}

/** From definitions to places of files. */
export class KernelPlaces {
  readonly #files: FileCache;
  readonly #registry: PlaceRegistry<ProbeAddition>;

  constructor(files: FileCache, registry: PlaceRegistry<ProbeAddition>) {
    this.#files = files;
    this.#registry = registry;
  }

  /** In what some processes map; undefined where none of them maps the file. @throws TraplineError as resolving does. */
  inTargets(addition: ProbeAddition, pids: readonly Pid[]): WantedPlace[] | undefined {
    const found = pids.flatMap((pid) => {
      const places = this.#resolve(addition, pid, readProcessMaps(pid));
      return places === undefined ? [] : [{ pid, places }];
    });
    return found.length === 0 ? undefined : gather(found);
  }

  /**
   * In each file that the name means to some process, and in the one that it means to us; undefined where it means
   * none.
   * @throws TraplineError as resolving does.
   */
  everywhere(addition: ProbeAddition): WantedPlace[] | undefined {
    const { location } = addition.definition;
    const matches = mappingMatcher(location);
    const found: FoundPlaces[] = [];
    const known = new Set<string>();
    for (const pid of findProcesses((maps) => maps.some((one) => one.executable && matches(one)))) {
      const keys = mapsIfReadable(pid)
        .filter((one) => matches(one))
        .map(keyOf);
      if (keys.every((key) => known.has(key))) continue;
      const places = this.#resolve(addition, pid, mapsIfReadable(pid)) ?? [];
      for (const key of keys) known.add(key);
      found.push(ofEveryProcess(places));
    }
    const path = 'file' in location ? findIfThere(location.file) : undefined;
    if (path !== undefined && existsSync(path)) {
      found.push(...this.#at(addition, [{ pid: ownPid(), path }], known));
    }
    return found.length === 0 ? undefined : gather(found);
  }

  /**
   * In the file that the name leads to, though none of some processes maps it yet: the kernel probes the file. What it
   * is, is for them to say: they may see another one by that path.
   * @returns undefined where the name leads nowhere
   * @throws TraplineError `no-file` for a path that leads nowhere; as resolving does.
   */
  inFile(addition: ProbeAddition, pids: readonly Pid[]): WantedPlace[] | undefined {
    const { location } = addition.definition;
    const path = 'file' in location ? findIfThere(location.file) : undefined;
    if (path === undefined) return undefined;
    const theirs = pids
      .map((pid) => ({ pid, path: `/proc/${visibleTask(pid)}/root${resolve(path)}` }))
      .filter((way) => isFileAt(way.path))
      .map((way) => (isSame(way.path, path) ? { ...way, path } : way));
    const ways = theirs.length > 0 ? theirs : [{ pid: ownPid(), path }];
    return gather(this.#at(addition, ways, new Set()));
  }

  /** In files that paths lead to, each once. */
  #at(addition: ProbeAddition, ways: readonly FileWay[], known: Set<string>): FoundPlaces[] {
    return ways.flatMap(({ pid, path }) => {
      const maps = aboutFile(addition.definition, () => mappingsOf(path, this.#files, pid));
      const keys = maps.map(keyOf);
      if (keys.every((key) => known.has(key))) return [];
      for (const key of keys) known.add(key);
      return [ofEveryProcess(this.#resolve(addition, pid, maps) ?? [])];
    });
  }

  #resolve(
    addition: ProbeAddition,
    pid: Pid,
    maps: readonly MemoryMapping[],
  ): readonly ResolvedPlace[] | undefined {
    return resolveIn(this.#registry, pid, maps, [addition])[0]?.places;
  }
}

/**
 * At a function's start nothing of it lies below the stack pointer yet; further on it may (psABI, 3.2.2).
 * @returns why a place can't be probed, if it is a nop that the kernel patches
 */
export function refuseNop(file: MappedFile, offset: FileOffset): string | undefined {
  if (!isPatchedNop(file.elf.bytes.subarray(offset))) return undefined;
  // A label of assembly may be a function's name too, inside of another.
  const isInside = file.symbols
    .functions()
    .some(({ offset: start, size }) => offset > start && offset < start + size);
  if (!isInside && file.symbols.at(offset)?.offset === offset) return undefined;
  return 'the kernel would make a call of this nop of five bytes, which writes below the stack pointer, where the function may keep data (the red zone)';
}

/** Whether two paths lead to the same file. */
function isSame(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) =>
    statSync(path, { bigint: true, throwIfNoEntry: false }),
  );
  return a !== undefined && a.ino === b?.ino && a.dev === b.dev;
}

function keyOf({ device, inode }: MemoryMapping): string {
  return `${device}:${inode}`;
}

/** No process's addresses are meant. */
function ofEveryProcess(places: readonly ResolvedPlace[]): FoundPlaces {
  return { pid: EVERY_PROCESS, places: places.map((one) => ({ ...one, address: address(0n) })) };
}

/** One entry a place of a file, whoever maps it. */
function gather(found: readonly FoundPlaces[]): WantedPlace[] {
  const wanted = new Map<string, WantedPlace>();
  for (const { pid, places } of found) {
    for (const place of places) {
      const key = `${place.file.device}:${place.file.inode}:${place.offset}`;
      const one = wanted.get(key) ?? { place, seen: [] };
      one.seen.push({ pid, place });
      wanted.set(key, one);
    }
  }
  return [...wanted.values()];
}
