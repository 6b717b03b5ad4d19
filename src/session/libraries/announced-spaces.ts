/** What a session's targets tell of themselves: who is asked to, who is heard, and where to look. */

import type { Pid } from '../../base/brand.ts';
import { Announcements } from '../../events/announcements.ts';
import { mapsIfReadable } from '../../engines/jump/spaces.ts';
import { held } from '../../process/held.ts';
import { withholdsRights } from '../../process/rights.ts';
import type { ExecFunction } from '../../symbols/exec-functions.ts';
import type { FileCache } from '../files/files.ts';
import type { ProbeAddition } from '../probes/probing.ts';
import type { Target, TargetSet } from '../targets/target-set.ts';
import { ensureExecHooks, ensureHook, type TargetSpace } from '../targets/target-spaces.ts';
import type { WalkedProcess } from '../walks/walk.ts';

/** The targets of the jump engine, as far as they announce their tasks. */
export class AnnouncedSpaces {
  readonly #targets: TargetSet;
  readonly #files: FileCache;
  #tellsExecs = false;

  constructor(targets: TargetSet, files: FileCache) {
    this.#targets = targets;
    this.#files = files;
  }

  /** Whether targets are to tell of programs that they execute, too. */
  get tellsExecs(): boolean {
    return this.#tellsExecs;
  }

  /** Targets are held when they execute a program: those are to be let go before that would lose its rights so. */
  follow(): void {
    this.#tellsExecs = withholdsRights();
  }

  /** Takes note of a process's mappings as they are now. @returns whether it holds memory of this session. */
  sync(process: WalkedProcess): boolean {
    const space = this.#targets.spaceOf(process);
    space?.served.sync(process.maps);
    if (space !== undefined) this.#files.mappings.note(process.pid, () => process.maps);
    return space !== undefined;
  }

  /** The processes that share the memory of a source. */
  spacesOf(source: number): readonly Pid[] {
    const target = this.#targets.get(source);
    return target === undefined ? [] : [target.pid, ...target.jump.children()];
  }

  /** A process was forked that is held. */
  bear(child: Pid, parent: Pid): void {
    this.#files.mappings.inherit(child, parent);
  }

  /** A program that is led is a target for the sake of what it may load later. @returns whether it can tell of that */
  hook(pid: Pid): boolean {
    const target = this.#targets.of(pid);
    if (target === undefined) return false;
    this.hush(target);
    return typeof target.hook === 'object';
  }

  /** A program is not led any more: what it announces is answered. */
  listen(pid: Pid): void {
    const target = this.#targets.of(pid);
    if (target !== undefined) announcementsOf(target)?.open();
    this.#files.mappings.note(pid, () => mapsIfReadable(pid));
  }

  /**
   * What is led through its dynamic linker gets its hook now, since it can't be asked for more when it is through;
   * but nobody answers before.
   */
  hush(target: Target): void {
    if (!isLed(target)) return;
    ensureHook(ownSpace(target), this.#files);
    announcementsOf(target)?.close();
  }

  /**
   * A program starts up: as soon as it maps its C library it is to tell of what it executes.
   * @returns whether it does not map one yet. Nothing is done where it has no probe.
   */
  lacksExecs(pid: Pid): boolean {
    const target = this.#targets.of(pid);
    if (!this.#tellsExecs || target?.jump.memory === undefined) return false;
    return !ensureExecHooks(ownSpace(target), this.#files);
  }

  /** The function of which a consumer tells that a task is about to execute a program by it. */
  execOf(source: number, consumer: number): ExecFunction | undefined {
    return this.#targets.get(source)?.execs?.get(consumer);
  }

  /** Has a probe wait for its file, if any of the targets that are to get it can tell that it maps it. */
  expect(addition: ProbeAddition): void {
    const targets = this.#targets.current.filter(({ pid }) => addition.wants(pid));
    for (const target of targets) if (!isLed(target)) ensureHook(ownSpace(target), this.#files);
    const barred = targets.map(({ hook }) => hook).filter((hook) => typeof hook === 'string');
    const [reason] = barred;
    if (reason !== undefined && barred.length === targets.length) addition.notTold(reason);
  }
}

/** A target's own address space. */
export function ownSpace(target: Target): TargetSpace {
  return { target, pid: target.pid, served: target.served };
}

/** Whether its program starts up, from system call to system call. */
function isLed({ pid }: Target): boolean {
  return held.get(pid)?.isLed === true;
}

function announcementsOf({ jump: { memory } }: Target): Announcements | undefined {
  return memory && new Announcements(memory.mapping.firstPage);
}
