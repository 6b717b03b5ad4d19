/** Real programs under the built command, and other ways to count the same calls. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { compileFixture, requireProgram } from '../harness/fixtures.ts';

/** The built command's main module. */
export const main: string = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/** How a program was run. */
export interface RunOptions {
  readonly input?: string;
  readonly cwd?: string;
  /** The whole environment; PATH alone where absent. */
  readonly env?: Readonly<Record<string, string>>;
}

/** What a program wrote and how it ended. */
export interface Ran {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a program to its end. Few variables: what depends on them would differ between two runs. */
export function runPlain(program: string, args: readonly string[], options: RunOptions = {}): Ran {
  const { status, signal, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    input: options.input ?? '',
    env: options.env ?? { PATH: process.env['PATH'] ?? '' },
    timeout: 120_000,
    maxBuffer: 256 << 20,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  if (error !== undefined) throw error;
  return { status, signal, out: stdout, err: stderr };
}

/** `trapline trace WORDS -o FILE -- COMMAND`: the command's own output, and the events. */
export interface Traced extends Ran {
  readonly events: readonly TracedEvent[];
}

/** One event of `--format json`. */
export interface TracedEvent {
  readonly pid: number;
  readonly tid: number;
  readonly comm: string;
  readonly event: string;
  readonly address: string;
  readonly args: Readonly<Record<string, unknown>>;
}

/** Starts a command under `trapline trace` and waits for its end. Events are kept apart from its output. */
export function traceCommand(
  words: readonly string[],
  command: readonly string[],
  options: RunOptions = {},
): Traced {
  return withFolder((folder) => {
    const file = join(folder, 'events');
    const shape = words.includes('--count') ? [] : ['--format', 'json', '-o', file];
    const args = [main, 'trace', ...shape, ...words, '--', ...command];
    const ran = runPlain(process.execPath, args, options);
    return { ...ran, events: existsSync(file) ? parseEvents(readFileSync(file, 'utf8')) : [] };
  });
}

/** Runs `trapline WORDS` to its end. */
export function trapline(words: readonly string[], options: RunOptions = {}): Ran {
  return runPlain(process.execPath, [main, ...words], options);
}

/** The events that `--format json` wrote, of its standard output. */
export function parseEvents(text: string): TracedEvent[] {
  const lines = text.split('\n').filter((line) => line !== '');
  // The command's own words, as docs say what they are; a test that misreads them fails.
  return lines.map((line) => JSON.parse(line) as TracedEvent);
}

/** Runs `work` with a folder that is gone afterwards. */
export function withFolder<T>(work: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-real-'));
  try {
    return work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** As {@link withFolder}, for work that takes its time. */
export async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-real-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The counts of an event in a summary that was written to standard error. */
export function countOf(ran: Ran, event: string, heading = 'hits'): number {
  const lines = ran.err.split('\n');
  const headings = lines.find((line) => /^event +hits/.test(line))?.split(/ {2,}/) ?? [];
  const cells = lines.find((line) => line.startsWith(`${event} `))?.split(/ {2,}/);
  assert.ok(cells !== undefined, `no summary of ${event}:\n${ran.err}`);
  const at = headings.findIndex((one) => one.trim() === heading);
  return at < 0 ? 0 : Number((cells[at] ?? '0').replaceAll(',', ''));
}

/** How often gdb's breakpoint on a function is hit while a program runs; words without spaces only. */
export function countByDebugger(place: string, command: readonly string[]): number {
  const commands = [
    'set startup-with-shell off',
    'set breakpoint pending on',
    'unset environment LINES',
    'unset environment COLUMNS',
    `break *${place}`,
    'ignore 1 100000000',
    'run',
    'info breakpoints',
  ].flatMap((one) => ['-ex', one]);
  const args = ['-q', '-nx', '-batch', ...commands, '--args', ...command];
  const { out, err } = runPlain(requireProgram('gdb'), args);
  const hits = /breakpoint already hit (\d+) times?/.exec(out)?.[1];
  assert.ok(hits !== undefined, `gdb never stopped at ${place}:\n${out}\n${err}`);
  return Number(hits);
}

/** A program and a library whose code runs before main: test/fixtures/early-main.c says what they do. */
export function earlyProgram(): { readonly program: string; readonly library: string } {
  const library = compileFixture({
    sources: ['early.c'],
    flags: ['-O2', '-g', '-shared', '-fPIC', '-Wl,-soname,libearly.so'],
    name: 'libearly.so',
  });
  const program = compileFixture({
    sources: ['early-main.c'],
    flags: ['-O2', '-g', '-Wl,-z,lazy'],
    libraries: [library, `-Wl,-rpath,${dirname(library)}`],
  });
  return { program, library };
}

/** What the dynamic linker maps for a program, itself included. */
export function librariesOf(program: string): string[] {
  const { out } = runPlain(requireProgram('ldd'), [program]);
  return [...out.matchAll(/(\/\S+) \(0x/g)].map(([, path = '']) => path);
}
