/** Every way to name a function or a file: what names one place gives one address. */

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, realpathSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';

import { attach, TraplineError, type ProbedSite, type ProbeRequest } from '../../src/index.ts';
import { compileFixture, requireProgram } from '../harness/fixtures.ts';
import { assertClean, snapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { earlyProgram, inFolder } from './real-support.ts';

/** Where a definition leads in a target, which is left as it was. */
async function sitesOf(
  target: Target,
  ...requests: readonly (string | ProbeRequest)[]
): Promise<ProbedSite[]> {
  await using session = await attach({ pids: [target.pid] }, { probes: requests });
  return session.probes.flatMap(({ sites }) => sites);
}

/** The one address that a definition leads to. */
async function placeOf(target: Target, definition: string): Promise<bigint> {
  const [site, ...more] = await sitesOf(target, definition);
  assert.ok(site !== undefined && more.length === 0, definition);
  return site.address;
}

/** The error that a definition is refused with. */
async function refusalOf(target: Target, definition: string): Promise<TraplineError> {
  const outcome = await sitesOf(target, definition).catch((error: unknown) => error);
  assert.ok(outcome instanceof TraplineError, `${definition}: ${String(outcome)}`);
  return outcome;
}

function names(sites: readonly ProbedSite[]): string[] {
  return sites.map(({ name }) => name).toSorted();
}

async function start(program: string, ready: RegExp): Promise<Target> {
  const target = await startTarget(program);
  await target.waitForLine(ready, 30_000);
  return target;
}

test('a file by its path, a link to it, its name, a library by less than its name', async () => {
  const { program, library } = earlyProgram();
  await using target = await start(program, / 42 42$/);
  const before = await snapshot(target.pid);
  const folder = dirname(program);
  const wanted = await placeOf(target, `main@'${program}'`);
  for (const file of [
    basename(program),
    `"${program}"`,
    `${folder}/../${basename(folder)}/${basename(program)}`,
    `/proc/${target.pid}/exe`,
  ]) {
    assert.equal(await placeOf(target, `main@${file}`), wanted, file);
  }
  const early = await placeOf(target, 'early_work@libearly.so');
  for (const file of ['libearly', library]) {
    assert.equal(await placeOf(target, `early_work@${file}`), early, file);
  }
  const malloc = await placeOf(target, 'malloc@libc.so.6');
  for (const file of ['libc', 'libc.so', '/lib/x86_64-linux-gnu/libc.so.6']) {
    assert.equal(await placeOf(target, `malloc@${file}`), malloc, file);
  }
  assertClean(before, await snapshot(target.pid));
});

test('a file offset and an offset in a function name the same place as the function', async () => {
  await using target = await start(earlyProgram().program, / 42 42$/);
  const [site] = await sitesOf(target, 'early_work@libearly');
  assert.ok(site !== undefined);
  const offset = site.offset;
  const byOffset = await sitesOf(
    target,
    `libearly:0x${offset.toString(16)}`,
    'early_work+0@libearly',
  );
  assert.deepEqual(
    byOffset.map(({ address, offset: at, name }) => [address, at, name]),
    [
      [site.address, offset, 'early_work'],
      [site.address, offset, 'early_work'],
    ],
  );
  const next = offset + site.displacedBytes;
  const [behind] = await sitesOf(target, `libearly:0x${next.toString(16)}`);
  assert.equal(behind?.name, `early_work+0x${site.displacedBytes.toString(16)}`);
  const refused = await refusalOf(target, 'early_work+0x10000@libearly');
  assert.match(refused.message, /outside of the function/);
  const unmapped = await refusalOf(target, 'libearly:0xfffff0');
  assert.match(unmapped.message, /not mapped executable/);
});

test('globs probe all that match and pass over what is excluded', async () => {
  await using target = await start(earlyProgram().program, / 42 42$/);
  assert.deepEqual(names(await sitesOf(target, 'early_*@libearly')), [
    'early_start',
    'early_twice',
    'early_work',
  ]);
  const exclude = ['early_s*', 'early_twice'];
  assert.deepEqual(names(await sitesOf(target, { definition: 'early_*@libearly', exclude })), [
    'early_work',
  ]);
  const many = names(
    await sitesOf(target, { definition: '*alloc*@libc.so.6', exclude: ['malloc'] }),
  );
  assert.ok(many.includes('calloc') && many.includes('realloc') && !many.includes('malloc'));
  assert.match(
    (await refusalOf(target, 'nothing_*@libearly')).message,
    /no function of .* matches/,
  );
});

test('a static function, an alias, a version', async () => {
  await using target = await start(earlyProgram().program, / 42 42$/);
  const [site] = await sitesOf(target, 'early_start@libearly');
  assert.equal(site?.name, 'early_start');
  const malloc = await placeOf(target, 'malloc@libc.so.6');
  assert.equal(await placeOf(target, '__libc_malloc@libc.so.6'), malloc);
  assert.equal(await placeOf(target, 'malloc@GLIBC_2.2.5@libc.so.6'), malloc);
  const strange = await refusalOf(target, 'malloc@GLIBC_9.9@libc.so.6');
  assert.equal(strange.code, 'no-symbol');
  assert.match(strange.hint ?? '', /malloc@@?GLIBC_2\.2\.5/);
});

test('an IFUNC is its chosen implementation, by the target’s own words or by ours', async () => {
  await using target = await start(earlyProgram().program, / 42 42$/);
  const chosen = await placeOf(target, 'early_twice@libearly');
  assert.equal(chosen, await placeOf(target, 'twice_vector@libearly'));
  const before = await snapshot(target.pid);
  assert.deepEqual(await valuesOfOneLine(target), [43]);
  assertClean(before, await snapshot(target.pid), { ran: true });
});

/** The arguments of the chosen function while the target answers one line. */
async function valuesOfOneLine(target: Target): Promise<unknown[]> {
  const probes = ['early_twice@libearly n=%di:s32'];
  await using session = await attach({ pids: [target.pid] }, { probes });
  target.send('');
  await target.waitForLine('line');
  await session.stop();
  const values: unknown[] = [];
  for await (const { args } of session) values.push(args['n']);
  return values;
}

test('an IFUNC that nobody has called yet is refused, not guessed', async () => {
  const { library } = earlyProgram();
  // Loads the library, and never calls what it has: only the symbol's name is known.
  const program = compileFixture({
    sources: ['early-main.c'],
    flags: ['-O2', '-g', '-Wl,-z,lazy', '-Dearly_twice=early_work'],
    libraries: [library, `-Wl,-rpath,${dirname(library)}`],
    name: 'early-uncalled',
  });
  await using target = await start(program, /^\S+ \d+ \d+$/);
  const refused = await refusalOf(target, 'early_twice@libearly');
  assert.match(refused.hint ?? '', /IFUNC/);
});

test('an IFUNC of a static program is known without loading it', async () => {
  const program = compileFixture({
    sources: ['self-check.c'],
    flags: ['-O2', '-pthread', '-static'],
    name: 'self-check-static',
  });
  await using target = await startTarget(program, ['1', '0', 'paused']);
  await target.waitForLine('ready');
  const [site] = await sitesOf(target, 'strlen@self-check-static');
  assert.ok(site !== undefined);
  assert.equal(site.name, 'strlen');
});

test('C++: one overload by its parameters, all of them without', async () => {
  await using target = await start(compileFixture({ sources: ['names.cc'] }), /^ready/);
  const one = await sitesOf(target, "'shop::price(int)'@names");
  assert.deepEqual(
    one.map(({ name }) => name),
    ['shop::price(int)'],
  );
  const all = await sitesOf(target, 'shop::price@names');
  assert.equal(all.length, 3);
  assert.equal(await placeOf(target, '_ZN4shop5priceEi@names'), one[0]?.address);
  assert.equal((await sitesOf(target, '"shop::Cart::operator+="@names')).length, 1);
  assert.equal((await sitesOf(target, 'shop::stock::add*@names')).length, 2);
});

test('what is not there is said to be so, with near names', async () => {
  await using target = await start(earlyProgram().program, / 42 42$/);
  const near = await refusalOf(target, 'early_wrk@libearly');
  assert.equal(near.code, 'no-symbol');
  assert.match(near.hint ?? '', /Did you mean early_work/);
  const file = await refusalOf(target, 'main@libnothing');
  assert.equal(file.code, 'no-file');
  assert.match(file.message, /libnothing is not mapped by early-main \(\d+\)/);
  assert.match(file.hint ?? '', /It maps .*libearly.so/);
  const stripped = await startTarget(requireProgram('sleep'), ['60']);
  await using other = stripped;
  assert.match((await refusalOf(other, 'main@sleep')).hint ?? '', /stripped|shows what there is/);
});

test('a library by the name that it gives itself', async () => {
  const { program, library } = earlyProgram();
  await inFolder(async (folder) => {
    // As Debian's libc-2.31.so: the file's own name is not the one that programs ask for.
    const named = compileFixture({
      sources: ['early.c'],
      flags: ['-O2', '-g', '-shared', '-fPIC', '-Wl,-soname,libearly.so'],
      name: 'other-name-1.2.so',
    });
    cpSync(named, join(folder, basename(named)));
    symlinkSync(basename(named), join(folder, basename(library)));
    const env = { LD_LIBRARY_PATH: folder };
    await using target = await startTarget(program, [], { env });
    await target.waitForLine(/ \d+ \d+$/, 30_000);
    const [site] = await sitesOf(target, 'early_work@libearly.so');
    assert.equal(basename(site?.file ?? ''), basename(named));
  });
});

test('a path with everything that the grammar quotes', async () => {
  const { program } = earlyProgram();
  await inFolder(async (folder) => {
    const odd = join(folder, "a b@c:d+e'f");
    mkdirSync(odd);
    const copy = join(odd, 'pro gram');
    cpSync(program, copy);
    await using target = await startTarget(copy);
    await target.waitForLine(/ 42 42$/, 30_000);
    const [site] = await sitesOf(target, `main@"${copy}"`);
    assert.equal(site?.file, realpathSync(copy));
    assert.equal((await sitesOf(target, "main@'pro gram'")).length, 1);
  });
});
