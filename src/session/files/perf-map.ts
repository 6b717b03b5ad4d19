/**
 * `/tmp/perf-PID.map`: the names of generated code, as perf and other profilers read them
 * (tools/perf/Documentation/jit-interface.txt: start, size, name, in hexadecimal).
 */

import { closeSync, constants, fstatSync, openSync, rmSync, writeSync } from 'node:fs';

import type { Pid } from '../../base/brand.ts';
import { messageOf, TraplineError } from '../../base/errors.ts';
import type { JumpTarget } from '../../engines/jump/target.ts';
import { readTaskStatus } from '../../process/tasks.ts';
import type { AddedProbe } from '../types.ts';

/** Writes the names of a session's stubs. Disposing it takes away the files that it made. */
export class PerfMap implements Disposable {
  readonly #made = new Set<string>();
  /** The stubs that are named already, by process and address. */
  readonly #written = new Set<string>();

  /**
   * Appends a probe's stubs in one target.
   * @throws TraplineError `refused` when the file is not the target's user's: /tmp is everybody's.
   */
  write(target: JumpTarget, probe: AddedProbe): void {
    const lines = target.stubs().flatMap(({ site, stub, bytes }) => {
      const named = probe.sites.find(({ pid, address }) => pid === target.pid && address === site);
      const key = `${target.pid}:${stub}`;
      if (named === undefined || this.#written.has(key)) return [];
      this.#written.add(key);
      return `${stub.toString(16)} ${bytes.toString(16)} trapline:${named.name}\n`;
    });
    if (lines.length > 0) this.#append(target.pid, lines.join(''));
  }

  [Symbol.dispose](): void {
    for (const path of this.#made) rmSync(path, { force: true });
  }

  #append(pid: Pid, text: string): void {
    const path = `/tmp/perf-${pid}.map`;
    const flags =
      constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;
    const fd = openOwn(path, flags);
    try {
      const file = fstatSync(fd);
      const owners = [process.geteuid?.(), readTaskStatus(pid)?.uid];
      if (!file.isFile() || !owners.includes(file.uid)) {
        throw new TraplineError({
          code: 'refused',
          message: `${path} belongs to somebody else (uid ${file.uid})`,
          hint: 'Remove it, or do without --perf-map.',
        });
      }
      if (file.size === 0) this.#made.add(path);
      writeSync(fd, text);
    } finally {
      closeSync(fd);
    }
  }
}

/** Opens a file in a folder that is everybody's: what stands there under its name may be a trap. */
function openOwn(path: string, flags: number): number {
  try {
    // Without waiting: a pipe that nobody reads is refused below, or here.
    return openSync(path, flags | constants.O_NONBLOCK, 0o644);
  } catch (error) {
    throw new TraplineError({
      code: 'refused',
      message: `${path} can't be written: ${reasonOf(error)}`,
      hint: 'Remove it, or do without --perf-map.',
      cause: error,
    });
  }
}

function reasonOf(error: unknown): string {
  const text = messageOf(error);
  // With O_NOFOLLOW this is what a link is (open(2)).
  return text.startsWith('ELOOP') ? 'it is a symbolic link' : text;
}
