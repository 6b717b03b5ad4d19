import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { feature, skipUnless, type FeatureName } from '../../harness/features.ts';
import { compileFixture, requireProgram, type FixtureOptions } from '../../harness/fixtures.ts';
import { startTarget } from '../../harness/target.ts';

interface Case {
  readonly options: FixtureOptions;
  readonly needs: readonly FeatureName[];
  readonly args?: readonly string[];
  readonly send?: readonly string[];
  /** Lines that come, in this order, others between them. */
  readonly lines: readonly (string | RegExp)[];
  readonly stays?: boolean;
}

const cases: Readonly<Record<string, Case>> = {
  'timer-storm': {
    options: { sources: ['timer-storm.c'] },
    needs: ['gcc'],
    args: ['100', '1'],
    lines: ['ready', /^ok \{"handler_work":[1-9]/],
  },
  'fork-tree': {
    options: { sources: ['fork-tree.c'] },
    needs: ['gcc'],
    args: ['2', '2', '10', 'wait'],
    send: ['go'],
    lines: ['ready', 'node', /^ok 7$/],
  },
  'thread-churn': {
    options: { sources: ['thread-churn.c'] },
    needs: ['gcc'],
    args: ['500', '8', '10', 'wait'],
    send: ['go', 'end'],
    lines: ['ready', 'ok {"threads":500,"churn_work":5000}'],
  },
  'bad-pointers': {
    options: { sources: ['bad-pointers.c'] },
    needs: ['gcc'],
    send: ['list', 'round'],
    lines: ['ready', 'case null', 'case page-end', 'round 1'],
    stays: true,
  },
  'no-libc': {
    options: {
      sources: ['no-libc.c'],
      flags: ['-O2', '-nostdlib', '-static', '-ffreestanding'],
    },
    needs: ['gcc'],
    lines: ['ready', 'tick', 'tick'],
    stays: true,
  },
  'static self-check': {
    options: { sources: ['self-check.c'], flags: ['-O2', '-static', '-pthread'] },
    needs: ['gcc'],
    args: ['2', '0', 'paused'],
    send: ['step 3', 'quit'],
    lines: ['ready', 'stepped {"rounds":6', 'ok'],
  },
  names: {
    options: { sources: ['names.cc'] },
    needs: ['g++'],
    send: ['1', '2'],
    lines: ['ready', 'round 2'],
    stays: true,
  },
  go: {
    options: { sources: ['work.go'] },
    needs: ['go'],
    send: ['1'],
    lines: ['ready', 'round 1 8000'],
    stays: true,
  },
  rust: {
    options: { sources: ['work.rs'] },
    needs: ['rust'],
    send: ['1'],
    lines: ['ready', 'round 1 4000'],
    stays: true,
  },
  sqlite: {
    options: { sources: ['sqlite-threads.c'], libraries: ['-lsqlite3'] },
    needs: ['gcc', 'libsqlite3-dev'],
    send: ['1'],
    lines: ['ready', 'round 1'],
    stays: true,
  },
};

for (const [name, one] of Object.entries(cases)) {
  test(`the fixture ${name} compiles and does what it says`, async (t) => {
    if (skipUnless(t, ...one.needs)) return;
    await using target = await startTarget(compileFixture(one.options), one.args);
    for (const line of one.send ?? []) target.send(line);
    for (const line of one.lines) await target.waitForLine(line);
    if (one.stays === true) assert.ok(target.running);
    else assert.deepEqual(await target.waitForEnd(), { status: 0, signal: undefined });
  });
}

test('a fixture is compiled once, and again when its flags change', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const cache = mkdtempSync(join(tmpdir(), 'trapline-cache-'));
  const before = process.env['TRAPLINE_FIXTURE_CACHE'];
  process.env['TRAPLINE_FIXTURE_CACHE'] = cache;
  try {
    const first = compileFixture({ sources: ['bad-pointers.c'] });
    const made = statSync(first).mtimeMs;
    assert.equal(compileFixture({ sources: ['bad-pointers.c'] }), first);
    assert.equal(statSync(first).mtimeMs, made);
    assert.notEqual(compileFixture({ sources: ['bad-pointers.c'], flags: ['-O0'] }), first);
    assert.throws(
      () => compileFixture({ sources: ['bad-pointers.c'], flags: ['-fno-such'] }),
      /no-such/,
    );
    assert.equal(readdirSync(cache).length, 2, 'what failed leaves nothing');
  } finally {
    if (before === undefined) delete process.env['TRAPLINE_FIXTURE_CACHE'];
    else process.env['TRAPLINE_FIXTURE_CACHE'] = before;
    rmSync(cache, { recursive: true });
  }
});

test('a feature that is not known is an error, and so is a program that is not there', () => {
  // A cast, because the compiler forbids the mistake that is tried here.
  assert.throws(() => feature('no-such-thing' as FeatureName), RangeError);
  assert.throws(() => requireProgram('no-such-program'), /apt-get/);
});

test('a skip has the form that the census reads', (t) => {
  if (feature('tracefs').present) return;
  const reasons: (string | undefined)[] = [];
  assert.ok(skipUnless({ skip: (reason) => reasons.push(reason) }, 'tracefs'));
  assert.match(reasons[0] ?? '', /^missing feature: tracefs \(.+\)$/);
  t.diagnostic('tracefs is not here');
});
