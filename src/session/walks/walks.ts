/** The tracer's side of walks: the processes that could get the probes of a session, or of one that begins. */

import { pid as brandPid } from '../../base/brand.ts';
import { mapsIfReadable, readProcessMaps } from '../../engines/jump/spaces.ts';
import { parseDefinition } from '../../probe/definition.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { candidatesOf, type WantedIn } from './candidates.ts';
import type { SessionEngine } from '../engine.ts';
import type { FileCache } from '../files/files.ts';
import type { ProbeAddition } from '../probes/probing.ts';
import type { AnnouncedIn, Candidate, WalkReply, WantedProbe } from '../protocol.ts';
import { selectProcesses, sparedProcesses } from '../targets/selection.ts';
import type { TargetSelection } from '../types.ts';
import { ProcessWalk, type WalkedProcess } from './walk.ts';
import { WantedFiles, type WantedFile } from './wanted-file.ts';

/** Where a process maps the file of a probe. */
export interface MappedProbe {
  readonly addition: ProbeAddition;
  readonly mappings: readonly MemoryMapping[];
  /** Whether a process that does not map it may load it later. */
  readonly mayBeLoaded: () => boolean;
}

/** Walks for one session. */
export class SessionWalks {
  readonly #files: FileCache;
  readonly #wanted = new WeakMap<ProbeAddition, WantedFile>();
  #walk: ProcessWalk | undefined;

  constructor(files: FileCache) {
    this.#files = files;
  }

  /** The processes that are selected, or an engine's own, and which of the probes each could get. */
  candidates(
    selection: TargetSelection | undefined,
    probes: readonly WantedProbe[],
    engine: SessionEngine | undefined,
  ): readonly Candidate[] {
    const named = new WantedFiles(this.#files);
    const wanted = probes.map(({ definition }, number) => {
      return { number, file: named.of(parseDefinition(definition).location) };
    });
    return candidatesOf(this.#processes(selection, probes, engine), wanted);
  }

  /** What has changed since the last walk: among some processes, or all. */
  walk(
    pids: readonly number[] | undefined,
    engine: SessionEngine,
    additions: Iterable<ProbeAddition>,
  ): WalkReply {
    this.#walk ??= new ProcessWalk(sparedProcesses(), !engine.isWalking);
    const walk = this.#walk;
    const walked = pids === undefined ? walk.look() : walk.lookAt(pids.map((pid) => brandPid(pid)));
    if (!engine.isWalking) {
      const candidates = this.#candidatesAmong(walked.changed, engine, additions);
      return { candidates, ended: [], abandoned: [] };
    }
    const departed = engine.noteWalk(walked);
    const changed = walked.changed.filter((process) => !engine.isInherited(process));
    for (const process of changed) engine.announced?.sync(process);
    return { candidates: candidatesOf(changed, this.#wantedIn(engine, additions)), ...departed };
  }

  /** Which processes could get which probes, of those that have announced that they have loaded or unloaded something. */
  look(
    announced: readonly AnnouncedIn[],
    engine: SessionEngine,
    additions: Iterable<ProbeAddition>,
  ): readonly Candidate[] {
    const pids = announced.flatMap(({ source, tasks }) =>
      tasks === undefined
        ? (engine.announced?.spacesOf(source) ?? [])
        : tasks.map(({ pid }) => brandPid(pid)),
    );
    const processes = Array.from(new Set(pids), (pid) => ({ pid, maps: mapsIfReadable(pid) }));
    return this.#candidatesAmong(processes, engine, additions);
  }

  /** Of what targets say of themselves nothing is believed: only those that hold our memory are looked at. */
  #candidatesAmong(
    processes: readonly WalkedProcess[],
    engine: SessionEngine,
    additions: Iterable<ProbeAddition>,
  ): Candidate[] {
    const ours = processes.filter((process) => engine.announced?.sync(process) === true);
    return candidatesOf(ours, this.#wantedIn(engine, additions));
  }

  #wantedIn(engine: SessionEngine, additions: Iterable<ProbeAddition>): WantedIn[] {
    return this.#withFiles(additions).map(({ addition, file }) => ({
      number: addition.id,
      file,
      isIn: (process: WalkedProcess, mapping: MemoryMapping) =>
        engine.has(process, addition.id, mapping),
    }));
  }

  /** A process's mappings of the files of probes. */
  mapped(additions: Iterable<ProbeAddition>, process: WalkedProcess): MappedProbe[] {
    return this.#withFiles(additions).map(({ addition, file }) => ({
      addition,
      mappings: file.mappingsIn(process),
      mayBeLoaded: () => file.isLibrary,
    }));
  }

  get #ours(): ProcessWalk {
    return (this.#walk ??= new ProcessWalk(sparedProcesses()));
  }

  #withFiles(additions: Iterable<ProbeAddition>): { addition: ProbeAddition; file: WantedFile }[] {
    // Of those that are new: what a name led to for others may have been replaced since.
    const named = new WantedFiles(this.#files);
    return Array.from(additions, (addition) => {
      const file = this.#wanted.get(addition) ?? named.of(addition.definition.location);
      this.#wanted.set(addition, file);
      return { addition, file };
    });
  }

  #processes(
    selection: TargetSelection | undefined,
    probes: readonly WantedProbe[],
    engine: SessionEngine | undefined,
  ): Iterable<WalkedProcess> {
    if (selection?.all === true) return this.#ours.look().changed;
    // All of them, not those that have changed: a new probe may be about another file.
    if (engine?.isWalking === true) {
      const { changed } = new ProcessWalk(sparedProcesses()).look();
      const orphans = engine.orphans();
      return changed.filter(
        (process) => orphans.includes(process.pid) || !engine.isInherited(process),
      );
    }
    const pids =
      selection === undefined
        ? (engine?.pids ?? [])
        : selectProcesses(selection, probes).map(({ pid }) => pid);
    return pids.map((pid) => ({ pid, maps: readProcessMaps(pid) }));
  }
}
