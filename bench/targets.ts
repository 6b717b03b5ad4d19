/** The programs that are measured, compiled on demand and kept. */

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { compileFixture } from '../test/harness/fixtures.ts';
import { startTarget, type Target, type TargetOptions } from '../test/harness/target.ts';

/** `bench/`: this file, compiled, lies two folders below the root. */
const folder = fileURLToPath(new URL('../../bench/', import.meta.url));

/** Functions of {@link compileLarge}: `f0000`, `f0001` … */
export const LARGE_FUNCTIONS = 3000;

/** Functions that the program calls in a loop: the commands of bench/target.c. */
export type MeasuredFunction =
  | 'work'
  | 'recorded'
  | 'counted'
  | 'pointed'
  | 'traced'
  | MethodFunction;

/** Those of bench/methods.S. */
export type MethodFunction =
  `method_${'nop' | 'jump' | 'jump_several' | 'short_jump' | 'pun' | 'springboard'}`;

/** bench/follow.c. */
export function compileFollow(): string {
  return compileFixture({ sources: [join(folder, 'follow.c')], name: 'trapline-follow' });
}

/** bench/target.c with bench/hand.c. */
export function compileTarget(): string {
  return compileWith({ name: 'trapline-bench' });
}

/** The same, `traced` being LTTng's tracepoint of the two arguments; undefined where LTTng's headers are not. */
export function compileForLttng(): string | undefined {
  if (!existsSync('/usr/include/x86_64-linux-gnu/lttng/tracepoint-event.h')) return undefined;
  const libraries = ['-llttng-ust', '-ldl'];
  return compileWith({ name: 'trapline-bench-lttng', sources: ['lttng.c'], libraries });
}

/** The same at a fixed address, `traced` being a function whose first instruction a jump can replace. */
export function compileForGdb(): string {
  return compileWith({ name: 'trapline-bench-gdb', sources: ['gdb.c'], flags: ['-no-pie'] });
}

/** The same with the functions of bench/methods.S. */
export function compileMethods(): string {
  return compileWith({ name: 'trapline-bench-methods', sources: ['methods.S'] });
}

function compileWith(more: {
  readonly name: string;
  readonly sources?: readonly string[];
  readonly flags?: readonly string[];
  readonly libraries?: readonly string[];
}): string {
  const { name, sources = [], flags = [], libraries = [] } = more;
  return compileFixture({
    sources: ['target.c', 'hand.c', ...sources].map((source) => join(folder, source)),
    flags: ['-O2', '-g', '-pthread', '-fcf-protection=none', `-I${folder}`, ...flags],
    libraries,
    name,
  });
}

/** A program of 2 MB of text in 3,000 functions; it reads commands as bench/target.c does. */
export function compileLarge(): string {
  const work = join(tmpdir(), `trapline-bench-${process.getuid?.() ?? 0}`);
  mkdirSync(work, { recursive: true, mode: 0o700 });
  const source = join(work, 'large.c');
  writeFileSync(source, largeSource());
  return compileFixture({
    sources: [source],
    flags: ['-O1', '-pthread', '-fcf-protection=none'],
    name: 'trapline-large',
  });
}

/** Branches, calls and a switch in each, as programs have them. */
function largeSource(): string {
  const names = Array.from(
    { length: LARGE_FUNCTIONS },
    (_, index) => `f${String(index).padStart(4, '0')}`,
  );
  const functions = names.map((name, index) => {
    const cases = Array.from({ length: 12 }, (_, at) => {
      const factor = index * 12 + at + 3;
      return `case ${at}: a = a * ${factor}u + (b >> ${at + 1}); if (a & ${1 << at}) b ^= a * ${factor + 7}u; break;`;
    }).join('\n');
    const steps = Array.from({ length: 10 }, (_, at) => {
      return `if (a > ${index + at * 37}u) { table[(a + ${at}) & 255] += b; b = b * ${at + 3} + a; } else a -= b ^ ${index}u;`;
    }).join('\n');
    const next = index === 0 ? '' : `if (b == ${index}u) a += ${names[index - 1]}(b, a);`;
    return `__attribute__((noinline)) unsigned ${name}(unsigned a, unsigned b) {
switch (b & 15) {\n${cases}\n}\n${steps}\n${next}\nreturn a + b;\n}`;
  });
  return `#include <stdio.h>
#include <time.h>
static unsigned table[256];
${functions.join('\n')}
int main(void) {
  char line[100];
  setvbuf(stdout, NULL, _IOLBF, 0);
  puts("ready");
  int milliseconds;
  unsigned volatile sink = 0;
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (sscanf(line, "tick %d", &milliseconds) != 1) continue;
    for (long left = milliseconds * 10L; left > 0; left--) {
      struct timespec pause = {0, 50000};
      sink += f0000(sink, 7);
      nanosleep(&pause, NULL);
    }
    puts("ticked");
  }
}
`;
}

/** A program of ours that runs and waits for commands. `await using` ends it. */
export class MeasuredTarget implements AsyncDisposable {
  readonly target: Target;

  private constructor(target: Target) {
    this.target = target;
  }

  static async start(path: string, env?: TargetOptions['env']): Promise<MeasuredTarget> {
    const target = await startTarget(path, [], env === undefined ? {} : { env });
    return MeasuredTarget.of(target);
  }

  /** One that was started in another way. It waits until it takes commands. */
  static async of(target: Target): Promise<MeasuredTarget> {
    await target.waitForLine('ready', 60_000);
    return new MeasuredTarget(target);
  }

  get pid(): number {
    return this.target.pid;
  }

  /** Sends a command. @returns its answer's line */
  async ask(command: string, timeout = 60_000): Promise<string> {
    this.target.send(command);
    return this.target.waitForLine(/./, timeout);
  }

  /**
   * Calls a function in some threads.
   * @returns processor time of a call, in nanoseconds
   * @throws Error when a record by hand was dropped: a full ring is cheaper.
   */
  async run(what: MeasuredFunction, threads: number, calls: number): Promise<number> {
    const answer = await this.ask(`run ${what} ${threads} ${calls}`);
    const match = /^ns ([\d.]+)(?: records (\d+) full (\d+))?$/.exec(answer);
    if (match === null) throw new Error(`the target answered: ${answer}`);
    if (what === 'recorded' && (Number(match[2]) !== threads * calls || match[3] !== '0')) {
      throw new Error(`${threads * calls} records were to be made: ${answer}`);
    }
    return Number(match[1]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.target[Symbol.asyncDispose]();
  }
}
