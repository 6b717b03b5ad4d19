/** The kernel's uprobes on bytes that a pun rests on: the last of its jump, which are the file's own. */

import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';

import { attach, status, type Session } from '../../src/index.ts';
import { TraplineError } from '../../src/base/errors.ts';
import { fileOffset } from '../../src/base/brand.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { SymbolTable } from '../../src/symbols/symbol-table.ts';
import { skipUnless } from '../harness/features.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, eventOf } from './jump-support.ts';
import { leavingKernelClean, OwnFixture } from './kernel-support.ts';
import { stepMethods } from './methods-support.ts';

const TRACEFS = '/sys/kernel/tracing';
const GROUP = `trapline_foreign_${process.pid}`;

/** A pun of one byte that rests on four; three are displaced, the last two are a jump back in a loop of three rounds. */
const PUN = 'm_pun_one';
/** Where the instructions on which it rests begin, and the one behind them. */
const RESTED_ON = [1, 3];
const BEHIND = 5;

/** A uprobe of somebody else, who knows nothing of Trapline. */
class ForeignUprobe implements Disposable {
  /** @param distance from {@link PUN} */
  constructor(path: string, distance: number) {
    const table = SymbolTable.of(ElfFile.open(readFileSync(path), path), {
      demangle: () => undefined,
    });
    const place = [...table.functions()].find(({ name }) => name === PUN);
    const offset = fileOffset(
      (place?.offset ?? assert.fail('there is no such function')) + distance,
    );
    appendFileSync(
      `${TRACEFS}/uprobe_events`,
      `p:${GROUP}/place ${path}:0x${offset.toString(16)}\n`,
    );
    writeFileSync(`${TRACEFS}/events/${GROUP}/place/enable`, '1');
  }

  [Symbol.dispose](): void {
    writeFileSync(`${TRACEFS}/events/${GROUP}/place/enable`, '0');
    appendFileSync(`${TRACEFS}/uprobe_events`, `-:${GROUP}/place\n`);
  }
}

/** Its one thread is parked. */
async function start({ path }: OwnFixture): Promise<Target> {
  const target = await startTarget(path, ['1']);
  await target.waitForLine('ready', 60_000);
  return target;
}

/** Has it call the function so often. */
async function call(target: Target): Promise<number> {
  const rounds = 10;
  await stepMethods(target, rounds);
  return rounds;
}

async function addPun(session: Session): Promise<void> {
  const { sites } = await session.add({ definition: `${PUN}@methods`, action: 'count' });
  assert.equal(sites[0]?.method, 'pun');
}

async function probeByKernel(target: Target, distance: number): Promise<Session> {
  const probe = { definition: `${PUN}+${distance}@methods`, action: 'count' } as const;
  return attach({ pids: [target.pid] }, { engine: 'kernel', probes: [probe] });
}

function isRefusal(reason: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof TraplineError &&
    error.code === 'refused' &&
    reason.test(`${error.message} ${error.hint ?? ''}`);
}

const BREAKPOINT = isRefusal(/somebody else's breakpoint is there/);

/** Runs `work` on the fixture in a file of its own, and looks whether the kernel and it are as before. */
async function withMethods(
  t: TestContext,
  work: (target: Target, path: string) => Promise<void>,
): Promise<void> {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['methods.c'] });
  await using target = await start(fixture);
  await leavingKernelClean(target, 'kernel', () => work(target, fixture.path));
}

/** Ends a session whose pun was hit so often. */
async function endExact(session: Session, calls: number): Promise<void> {
  const summary = await session.stop();
  assertExact(summary);
  assert.equal(eventOf(summary, PUN).hits, calls);
}

test('a pun is refused where somebody has a uprobe on the bytes that it would rest on', async (t) => {
  await withMethods(t, async (target, path) => {
    await using session = await attach({ pids: [target.pid] }, { probes: [] });
    for (const distance of RESTED_ON) {
      using _ = new ForeignUprobe(path, distance);
      await assert.rejects(addPun(session), BREAKPOINT);
      await call(target);
    }
    await addPun(session);
    const calls = await call(target);
    await endExact(session, calls);
  });
});

test('a pun is refused where a session of ours has a uprobe on the bytes that it would rest on', async (t) => {
  await withMethods(t, async (target) => {
    await using kernel = await probeByKernel(target, 3);
    await using session = await attach({ pids: [target.pid] }, { probes: [] });
    await assert.rejects(addPun(session), BREAKPOINT);
    const calls = await call(target);
    await session.stop();
    const summary = await kernel.stop();
    assert.equal(eventOf(summary, `${PUN}_0x3`).hits, calls * 3);
  });
});

test('no uprobe of ours is set on the bytes that a pun rests on; one right behind them is', async (t) => {
  await withMethods(t, async (target) => {
    await using session = await attach({ pids: [target.pid] }, { probes: [] });
    await addPun(session);
    for (const distance of RESTED_ON) {
      const placed = probeByKernel(target, distance);
      await assert.rejects(placed, isRefusal(/has a jump of Trapline there/));
    }
    await using kernel = await probeByKernel(target, BEHIND);
    const calls = await call(target);
    assert.equal(eventOf(await kernel.stop(), `${PUN}_0x${BEHIND}`).hits, calls);
    await endExact(session, calls);
  });
});

test('a uprobe that somebody sets later on the bytes that a pun rests on is seen, and the pun can go', async (t) => {
  await withMethods(t, async (target, path) => {
    await using session = await attach({ pids: [target.pid] }, { probes: [] });
    await addPun(session);
    const calls = await call(target);
    // Parked elsewhere: should it come to the pun now, it would be lost.
    using _ = new ForeignUprobe(path, 3);
    const [held] = await status([target.pid]);
    assert.match(
      held?.sites[0]?.found ?? '',
      /^its jump, led astray by other bytes behind it: ffceccfc$/,
    );
    await endExact(session, calls);
    await call(target);
  });
});
