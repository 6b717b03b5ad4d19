/** Functions whose names are not in the program itself, traced by name; and calls by their entry of the linkage table. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';

import { attach, listFunctions, TraplineError } from '../../src/index.ts';
import { skipUnless } from '../harness/features.ts';
import { compileFixture, requireProgram } from '../harness/fixtures.ts';
import { startTarget } from '../harness/target.ts';
import { countOf, traceCommand } from './real-support.ts';

const folder = mkdtempSync(join(tmpdir(), 'trapline-real-symbols-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const CALLS = 25;

/** A stripped program beside its debug file; it is linked so that calls go through the table, at start bound or not. */
function strippedProgram(name: string, link: string): { program: string; debug: string } {
  const full = compileFixture({
    sources: ['hidden-work.c'],
    flags: ['-O1', '-g', link],
    name,
  });
  const program = join(folder, name);
  const debug = `${program}.debug`;
  execFileSync('objcopy', ['--only-keep-debug', full, debug]);
  execFileSync('objcopy', ['--strip-all', `--add-gnu-debuglink=${debug}`, full, program]);
  return { program, debug };
}

for (const link of ['-Wl,-z,lazy', '-Wl,-z,now']) {
  test(`a static function and the calls of a library, by name (${link})`, (t) => {
    if (skipUnless(t, 'gcc', 'objcopy', 'strip')) return;
    const { program } = strippedProgram(`hidden${link.slice(-3)}`, link);
    const probes = [
      `hidden_work@${program} x=%di:s32`,
      `strdup@plt@${program} text=+0(%di):string`,
    ];
    const { events, out, err } = traceCommand(probes, [program, String(CALLS)]);
    assert.match(out, /^done 25\n$/, err);
    const of = (name: string): unknown[] =>
      events.filter(({ event }) => event.endsWith(name)).map(({ args }) => args);
    const numbers = Array.from({ length: CALLS }, (_, at) => at);
    assert.deepEqual(
      of('hidden_work'),
      numbers.map((x) => ({ x })),
    );
    assert.deepEqual(
      of('strdup_plt'),
      numbers.map((at) => ({ text: `call ${at}` })),
    );
  });
}

test('without its debug file a function is named by its offset, which list shows', async (t) => {
  if (skipUnless(t, 'gcc', 'objcopy', 'strip')) return;
  const { program, debug } = strippedProgram('bare', '-Wl,-z,lazy');
  const named = (await listFunctions(program, { glob: 'hidden_work' })).functions[0];
  assert.equal(named?.source, debug);
  rmSync(debug);
  const { functions, advice } = await listFunctions(program, { unnamed: true });
  const unnamed = functions.find(({ offset }) => offset === named.offset);
  assert.deepEqual([unnamed?.kind, unnamed?.size], ['unnamed', named.size]);
  assert.match(advice ?? '', /stripped.*no debug file of it was found \(build id [0-9a-f]{40}\)/);
  const { events } = traceCommand([`${program}:0x${named.offset.toString(16)}`], [program, '3']);
  assert.equal(events.length, 3);
  const refused = traceCommand([`hidden_work@${program}`], [program, '3']);
  assert.equal(refused.events.length, 0);
  assert.match(refused.err, /no function hidden_work in .*[^]*no debug file of it was found/);
});

test('functions of a stripped Go program are found by its own function table', (t) => {
  if (skipUnless(t, 'go', 'strip')) return;
  for (const flags of [[], ['-buildmode=pie']]) {
    const program = join(folder, `go-work${flags.length}`);
    execFileSync('strip', ['-o', program, compileFixture({ sources: ['work.go'], flags })]);
    const words = ['--count', `main.goWork@${program}`];
    const traced = traceCommand(words, [program], { input: '\n' });
    assert.match(traced.out, /^ok 8000$/m, traced.err);
    assert.equal(countOf(traced, `probe_${basename(program).replace('-', '_')}:main_goWork`), 8000);
  }
});

test('the debug file is found in the view of a process in another root', async (t) => {
  if (skipUnless(t, 'gcc', 'objcopy', 'strip', 'root')) return;
  const { program, debug } = strippedProgram('caged', '-static');
  const root = join(folder, 'root');
  mkdirSync(join(root, 'app/.debug'), { recursive: true });
  copyFileSync(program, join(root, 'app/caged'));
  copyFileSync(debug, join(root, 'app/.debug/caged.debug'));
  rmSync(debug);
  rmSync(program);
  assert.equal(spawnSync('chroot', [root, '/app/caged', '1']).status, 0);
  await using target = await startTarget(requireProgram('chroot'), [root, '/app/caged', 'wait']);
  await target.waitForLine(/^ready/, 60_000);
  const selection = { pids: [target.pid] };
  await using session = await attach(selection, { probes: ['hidden_work@caged'] });
  assert.deepEqual(
    session.probes.flatMap(({ sites }) => sites.map(({ name }) => name)),
    ['hidden_work'],
  );
  const outcome = await attach(selection, { probes: ['no_such_work@caged'] }).catch(
    (error: unknown) => error,
  );
  assert.ok(outcome instanceof TraplineError && outcome.code === 'no-symbol', String(outcome));
});
