/** The kernel's own probes, for comparison: tracefs and perf. Root only; all is taken out again. */

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

import { findProgram } from '../test/harness/features.ts';

const TRACEFS = '/sys/kernel/tracing';
const GROUP = 'trapline_bench';

/** One place of a file as the kernel's probe. */
export interface KernelPlace {
  readonly event: string;
  readonly file: string;
  readonly offset: bigint;
  /** What it fetches, as `uprobe_events` has it. */
  readonly arguments: string;
  /** As the event's `filter` has it. */
  readonly filter?: string;
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
    for (const { event, file, offset, arguments: fetched, filter } of places) {
      append(`p:${GROUP}/${event} ${file}:0x${offset.toString(16)} ${fetched}`);
      if (filter !== undefined) writeFileSync(`${TRACEFS}/events/${GROUP}/${event}/filter`, filter);
    }
    return probes;
  }

  enable(event: string): void {
    this.#switch(event, true);
  }

  disable(event: string): void {
    this.#switch(event, false);
  }

  /** Starts `perf record` of an event; undefined where there is no perf. It records when this resolves. */
  async perf(event: string, pid: number): Promise<PerfRecord | undefined> {
    const program = findProgram('perf');
    if (program === undefined) return undefined;
    const folder = mkdtempSync(join(tmpdir(), 'trapline-bench-'));
    // Disabled first: the probe is armed, and costs something, long before anything is recorded.
    const how = ['-D', '-1', '--control', 'fd:3,4', '-m', '1024', '-o', join(folder, 'perf.data')];
    const child = spawn(
      program,
      ['record', '-q', '-e', `${GROUP}:${event}`, '-p', String(pid), ...how],
      { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] },
    );
    const record = new PerfRecord(child, folder);
    await record.enable();
    return record;
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

  /** @throws Error when perf ends instead. */
  async enable(): Promise<void> {
    const [, , , control, answers] = this.#child.stdio;
    const answered = Promise.race([
      once(answers as Readable, 'data'), // pipes, by spawn's stdio
      once(this.#child, 'exit'),
    ]);
    (control as Writable).write('enable\n');
    await answered;
    if (!this.#running) throw new Error('perf record does not start');
  }

  get #running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#running) {
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
