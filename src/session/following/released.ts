/**
 * Followed processes that are let go because they are about to execute a program that gives rights, which it would not
 * under us. They wait for the answer to their announcement meanwhile.
 */

import { pid as brandPid, tid as brandTid, type Pid } from '../../base/brand.ts';
import type { Announcement } from '../../events/announcements.ts';
import { held } from '../../process/held.ts';
import { letGoBefore } from '../../process/hold.ts';
import type { HeldProcess } from '../../process/held-process.ts';
import { rightToGain } from '../../process/rights.ts';
import type { ExecFunction } from '../../symbols/exec-functions.ts';
import { announcedFile } from '../libraries/exec-hooks.ts';
import type { AnnouncedIn, Notice } from '../protocol.ts';

/** The task waits in a futex and stops at once; but no longer than it would wait for a session that is suspended. */
const PATIENCE = 500;

/** What is asked of the session. */
export interface ExecSession {
  /** The function of which a consumer tells that a task is about to execute a program by it. */
  execOf(source: number, consumer: number): ExecFunction | undefined;
  notify(notice: Notice): void;
}

/** Those that have not executed their programs yet: their probes are still read. */
export class ReleasedProcesses {
  readonly #session: ExecSession;
  readonly #waiting = new Map<Pid, HeldProcess>();

  constructor(session: ExecSession) {
    this.#session = session;
  }

  /**
   * Lets those go that announce that they are about to execute what needs that.
   * @param sourceOf the source to which a process writes
   * @returns what else was announced
   */
  hear(
    announced: readonly AnnouncedIn[],
    sourceOf: (pid: Pid) => number | undefined,
  ): AnnouncedIn[] {
    return announced.map(({ source, tasks }) => {
      const others = tasks?.filter((task) => {
        const name = this.#session.execOf(source, task.consumer);
        if (name !== undefined && sourceOf(brandPid(task.pid)) === source) this.#hear(task, name);
        return name === undefined;
      });
      return { source, tasks: others };
    });
  }

  #hear(task: Announcement, name: ExecFunction): void {
    const text = this.#consider(task, name);
    if (text === undefined) return;
    this.#session.notify({ kind: 'said', text });
    this.#session.notify({ kind: 'released' });
  }

  /** @returns what a person should know; undefined where the process stays */
  #consider(announcement: Announcement, name: ExecFunction): string | undefined {
    const pid = brandPid(announcement.pid);
    const task = brandTid(announcement.tid);
    const process = held.get(pid);
    // What a target says of itself is looked up, not believed.
    if (process?.tasks.has(task) !== true || process.isLed || process.isLeaving) return undefined;
    const file = announcedFile(announcement, task, name);
    const right = file === undefined ? undefined : rightToGain(file, task);
    if (file === undefined || right === undefined) return undefined;
    this.#waiting.set(pid, process);
    letGoBefore(process, task, PATIENCE);
    const shown = file.replace(/^\/proc\/\d+\/root\//, '/');
    return `${shown} is ${right}: it is not followed, so that it keeps its rights (process ${pid})`;
  }

  /** Those that have executed their programs, or ended, each once. @param isIn whether a process still has our probes */
  settle(isIn: (pid: Pid) => boolean): Pid[] {
    const settled = [...this.#waiting].filter(([pid]) => !isIn(pid));
    for (const [pid, process] of settled) {
      this.#waiting.delete(pid);
      // Tasks that another one's exec has ended while they could not be let go: nobody tells of them.
      if (held.get(pid) === process) held.forget(process);
    }
    return settled.map(([pid]) => pid);
  }

  /** Whether some have not executed their programs yet. */
  get areWaiting(): boolean {
    return this.#waiting.size > 0;
  }
}
