/** What a program waits for that loads a library in a running session. */

import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { attach, listFunctions } from '../src/index.ts';
import { compileFixture } from '../test/harness/fixtures.ts';
import { startTarget, type Target } from '../test/harness/target.ts';
import { command } from './built.ts';
import { median, Rows, type Row } from './rows.ts';

/** Loads that one figure is the middle of. */
const LOADS = 15;
/** Mappings that one figure is the middle of, each so many milliseconds further behind the last look. */
const MAPPINGS = 8;
const PHASE = 60;

/** Measures dlopen and dlclose without a session, beside one that has nothing to do, and where a probe comes. */
export async function measureLoading(rounds: number): Promise<Row[]> {
  const flags = ['-O2', '-g', '-fPIC', '-shared', '-DLIBRARY'];
  const library = compileFixture({ sources: ['plugins.c'], flags, name: 'libplugin.so' });
  const program = compileFixture({ sources: ['plugins.c'] });
  const rows = new Rows('Loading a library, and being told so through a pipe');
  for (let round = 0; round < rounds; round++) {
    await using target = await startTarget(program, [library]);
    await target.waitForLine('ready');
    rows.add('no session', 'ms', await timeLoads(target));
    for (const [name, probe] of [
      ['a session whose probes are elsewhere', `main@${program}`],
      ['one whose probe comes with it', `plugin_step@${library}`],
    ] as const) {
      rows.add(name, 'ms', await withSession(target, probe));
    }
  }
  for (let round = 0; round < rounds; round++) {
    rows.add('mapped by hand: until its probe is in', 'ms', await timeByHand());
  }
  return rows.finish();
}

/** The middle of how long code has no probe that the dynamic linker does not tell of. */
async function timeByHand(): Promise<number> {
  const flags = ['-O2', '-g', '-fPIC', '-shared', '-DLIBRARY'];
  const library = compileFixture({ sources: ['copies.c'], flags, name: 'libcopies.so' });
  const { functions } = await listFunctions(library, { glob: 'part_step' });
  const offset = functions[0]?.offset ?? 0;
  const words = [library, String(offset), library];
  await using target = await startTarget(compileFixture({ sources: ['mappings.c'] }), words);
  await target.waitForLine('ready');
  await using session = await attach(
    { pids: [target.pid] },
    { probes: [{ definition: `part_step@${library}`, action: 'count' }] },
  );
  const times: number[] = [];
  for (let mapping = 1; mapping <= MAPPINGS; mapping++) {
    await sleep(mapping * PHASE);
    target.send('map');
    await target.waitForLine('map');
    const began = performance.now();
    while ((session.probes[0]?.sites.length ?? 0) < mapping) await sleep(1);
    times.push(performance.now() - began);
  }
  return median(times);
}

async function withSession(target: Target, probe: string): Promise<number> {
  const tracer = spawn(process.execPath, [command, 'trace', '-p', String(target.pid), probe], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(tracer, 'exit');
  try {
    await once(createInterface({ input: tracer.stderr }), 'line'); // what was attached
    return await timeLoads(target);
  } finally {
    tracer.kill('SIGINT');
    await ended;
  }
}

async function timeLoads(target: Target): Promise<number> {
  const times: number[] = [];
  for (let load = 0; load < LOADS; load++) {
    const began = performance.now();
    target.send('open');
    await target.waitForLine('opened');
    times.push(performance.now() - began);
    target.send('close');
    await target.waitForLine('closed');
  }
  return median(times);
}
