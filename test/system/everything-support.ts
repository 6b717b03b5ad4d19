/** Programs at work with probes everywhere: how they are run, without and with probes, and what has to be equal. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { ProbeRequest } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import type { Job, Traced } from './everything-tracer.ts';
import type { Workload } from './everything-workloads.ts';
import { librariesOf, type Ran } from './real-support.ts';

/** A run that takes longer has lost its way; in milliseconds. */
const TIMEOUT = isLong() ? 1_800_000 : 300_000;

const tracer = fileURLToPath(new URL('./everything-tracer.js', import.meta.url));

/** What a program did: what it said, how it ended, and the files that it made. */
export interface Outcome extends Ran {
  /** Hashes by name. */
  readonly files: Readonly<Record<string, string>>;
}

/** How a workload is traced. */
export interface TraceOptions extends Pick<Job, 'engine' | 'ringBytes' | 'readsLate'> {
  readonly probes: readonly ProbeRequest[];
}

/**
 * A workload that is ready to run, with copies of its program and libraries: what the kernel probes in them is in no
 * other process. Its folder is gone afterwards.
 */
export class Stage implements Disposable {
  readonly workload: Workload;
  readonly #folder: string;
  readonly #program: string;
  #plain: Outcome | undefined;

  constructor(workload: Workload) {
    this.workload = workload;
    this.#folder = mkdtempSync(join(tmpdir(), 'trapline-everything-'));
    mkdirSync(join(this.#folder, 'lib'));
    const program = realpathSync(workload.program());
    this.#program = join(this.#folder, basename(program));
    copyFileSync(program, this.#program);
    for (const library of librariesOf(program)) {
      // The linker itself is named by an absolute path in the program.
      if (/\/ld-[^/]*$/.test(library)) continue;
      copyFileSync(library, join(this.#folder, 'lib', basename(library)));
    }
  }

  /** The copy of the program (`program`), or of a library by the beginning of its name. */
  file(name: string): string {
    if (name === 'program') return this.#program;
    const folder = join(this.#folder, 'lib');
    const found = readdirSync(folder).find((one) => one.startsWith(name));
    assert.ok(found !== undefined, `${this.#program} has no ${name}`);
    return join(folder, found);
  }

  /** The outcome without probes, which is the same twice. */
  plain(): Outcome {
    if (this.#plain !== undefined) return this.#plain;
    const [once, twice] = [0, 1].map(() => {
      const { command, cwd, env } = this.#fresh();
      return this.#run(command, cwd, env);
    });
    assert.ok(once !== undefined);
    assert.deepEqual(twice, once, 'without probes it is the same twice');
    return (this.#plain = once);
  }

  /** Runs it with probes, from its first instruction on; all that can be seen of it is as without them. */
  trace(options: TraceOptions): Traced {
    const plain = this.plain();
    const { command, cwd, env } = this.#fresh();
    const job = join(this.#folder, 'job');
    const result = join(this.#folder, 'result');
    rmSync(result, { force: true });
    writeFileSync(job, JSON.stringify({ ...options, command, cwd, env } satisfies Job));
    const words = [process.execPath, tracer, job, result];
    const outcome = this.#run(words, cwd, { PATH: env.PATH });
    assert.ok(existsSync(result), `the session failed: ${outcome.status}\n${outcome.err}`);
    assert.deepEqual(outcome, plain, 'with probes it is as without');
    // everything-tracer.ts says what it writes.
    return JSON.parse(readFileSync(result, 'utf8')) as Traced;
  }

  /** A new folder to work in, and how the program is started there. */
  #fresh(): { command: string[]; cwd: string; env: Record<string, string> & { PATH: string } } {
    const cwd = join(this.#folder, 'work');
    rmSync(cwd, { recursive: true, force: true });
    mkdirSync(cwd);
    this.workload.prepare?.(cwd);
    const env = {
      PATH: process.env['PATH'] ?? '',
      HOME: cwd,
      LD_LIBRARY_PATH: join(this.#folder, 'lib'),
      PYTHONHASHSEED: '0',
      PYTHONDONTWRITEBYTECODE: '1',
    };
    return { command: [this.#program, ...this.workload.args], cwd, env };
  }

  /** Its input and both outputs are files: what it does does not depend on how fast we read. */
  #run(words: readonly string[], cwd: string, env: Record<string, string>): Outcome {
    const [input = '', out = '', err = ''] = ['in', 'out', 'err'].map((name) =>
      join(this.#folder, name),
    );
    writeFileSync(input, this.workload.input ?? '');
    const stdio = [openSync(input, 'r'), openSync(out, 'w'), openSync(err, 'w')];
    try {
      const [program = '', ...args] = words;
      const ran = spawnSync(program, args, { cwd, env, stdio, timeout: TIMEOUT });
      if (ran.error !== undefined) throw ran.error;
      const { mask = (text: string): string => text } = this.workload;
      const [said = '', complained = ''] = [out, err].map((path) => readFileSync(path, 'latin1'));
      return {
        status: ran.status,
        signal: ran.signal,
        out: mask(said),
        err: mask(complained),
        files: hashesOf(cwd),
      };
    } finally {
      stdio.forEach((descriptor) => closeSync(descriptor));
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Hashes of all files of a folder, by name. */
function hashesOf(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted();
  const files = names.filter((name) => statSync(join(folder, name)).isFile());
  return Object.fromEntries(
    files.map((name) => {
      const digest = createHash('sha256').update(readFileSync(join(folder, name)));
      return [name, digest.digest('hex')];
    }),
  );
}

/** Hits by offset. */
export function hitsOf({ places }: Traced): Map<number, number> {
  return new Map(places.map(({ offset, hits }) => [offset, hits]));
}

/** All hits together. */
export function totalOf({ places }: Traced): number {
  return places.reduce((sum, { hits }) => sum + hits, 0);
}

/** The lines that say what was refused, for the person who reads a failure. */
export function refusalsOf({ refused }: Traced): string {
  return refused.map(({ name, reason }) => `${name}: ${reason}`).join('\n');
}
