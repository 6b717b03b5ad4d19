/** The kernel's own probes, for comparison: tracefs and perf. Root only; all is taken out again. */

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { findProgram } from '../test/harness/features.ts';

const TRACEFS = '/sys/kernel/tracing';
const GROUP = 'trapline_bench';

/** One place of a file as the kernel's probe. */
export interface KernelPlace {
  readonly event: string;
  readonly file: string;
  readonly offset: bigint;
}

/** Kernel probes, defined and not enabled. Disposing it removes them. */
export class KernelProbes implements Disposable {
  readonly #places: readonly KernelPlace[];
  readonly #mounted: boolean;

  private constructor(places: readonly KernelPlace[], mounted: boolean) {
    this.#places = places;
    this.#mounted = mounted;
  }

  /** @returns undefined where we may not, or the kernel can't. */
  static define(places: readonly KernelPlace[]): KernelProbes | undefined {
    if (process.getuid?.() !== 0 || !existsSync(TRACEFS)) return undefined;
    const mounted = !existsSync(`${TRACEFS}/uprobe_events`) && mount();
    if (!existsSync(`${TRACEFS}/uprobe_events`)) return undefined;
    const probes = new KernelProbes(places, mounted);
    // What an earlier run left behind when it was killed.
    for (const { event } of places) probes.#remove(event);
    for (const { event, file, offset } of places) {
      append(`p:${GROUP}/${event} ${file}:0x${offset.toString(16)} a=%di b=%si`);
    }
    return probes;
  }

  enable(event: string): void {
    this.#switch(event, true);
  }

  disable(event: string): void {
    this.#switch(event, false);
  }

  /** Starts `perf record` of an event; undefined where there is no perf. */
  perf(event: string, pid: number): PerfRecord | undefined {
    const program = findProgram('perf');
    if (program === undefined) return undefined;
    // Into a file: /dev/null is noticed, and fewer samples are taken.
    const folder = mkdtempSync(join(tmpdir(), 'trapline-bench-'));
    const where = ['-p', String(pid), '-m', '1024', '-o', join(folder, 'perf.data')];
    return new PerfRecord(
      spawn(program, ['record', '-q', '-e', `${GROUP}:${event}`, ...where], { stdio: 'ignore' }),
      folder,
    );
  }

  [Symbol.dispose](): void {
    for (const { event } of this.#places) this.#remove(event);
    if (this.#mounted) spawnSync('umount', [TRACEFS]);
  }

  #switch(event: string, on: boolean): void {
    writeFileSync(`${TRACEFS}/events/${GROUP}/${event}/enable`, on ? '1' : '0');
  }

  #remove(event: string): void {
    if (!readFileSync(`${TRACEFS}/uprobe_events`, 'utf8').includes(`${GROUP}/${event} `)) return;
    this.#switch(event, false);
    append(`-:${GROUP}/${event}`);
  }
}

/** A `perf record` that runs. */
export class PerfRecord implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #folder: string;

  constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGINT');
      await ended;
    }
    rmSync(this.#folder, { recursive: true });
  }
}

function mount(): boolean {
  return spawnSync('mount', ['-t', 'tracefs', 'tracefs', TRACEFS]).status === 0;
}

/** The file refuses O_TRUNC's meaning: that would remove everybody's probes. */
function append(line: string): void {
  writeFileSync(`${TRACEFS}/uprobe_events`, `${line}\n`, { flag: 'r+' });
}
