import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Command } from 'commander';
import * as fc from 'fast-check';
import { TraplineError } from '../../../src/base/errors.ts';
import {
  collect,
  parseCount,
  parseEngine,
  parseFormat,
  parsePids,
  parseRingSize,
  parseSize,
  parseTime,
  refuseReplacing,
} from '../../../src/cli/options.ts';
import { addTrace, checked, type TraceOptions } from '../../../src/cli/trace-options.ts';
import { splitWords } from '../../../src/cli/run.ts';

/** Runs `parse`, which must refuse the text as a mistake of usage, and returns the column. */
function columnOf(parse: (text: string) => unknown, text: string): number {
  try {
    parse(text);
  } catch (error) {
    assert.ok(error instanceof TraplineError, String(error));
    assert.equal(error.code, 'usage');
    assert.equal(error.position?.text, text);
    assert.notEqual(error.hint, undefined);
    return error.position.column;
  }
  return assert.fail(`${text} was accepted`);
}

test('process numbers: lists and repetitions add up', () => {
  assert.deepEqual(parsePids('1,22', parsePids('4194304')), [4194304, 1, 22]);
});

test('process numbers that are none are pointed at', () => {
  const cases: readonly (readonly [string, number])[] = [
    ['', 0],
    ['0', 0],
    ['1,', 2],
    ['12,x', 3],
    ['12,13,4194305', 6],
    ['-1', 0],
    [' 1', 0],
    ['1e3', 0],
    ['99999999999999999999', 0],
  ];
  for (const [text, column] of cases) assert.equal(columnOf(parsePids, text), column, text);
});

test('sizes', () => {
  const cases: readonly (readonly [string, number])[] = [
    ['1', 1],
    ['4096', 4096],
    ['256K', 262_144],
    ['256k', 262_144],
    ['1M', 1_048_576],
    ['1MiB', 1_048_576],
    ['1MB', 1_048_576],
    ['1.5G', 1_610_612_736],
    ['12B', 12],
  ];
  for (const [text, bytes] of cases) assert.equal(parseSize(text), bytes, text);
  for (const text of ['', 'M', '1T', '-1', '1.3', '0', '0M', '1 M', '99999999999999G', '1MM']) {
    assert.equal(columnOf(parseSize, text), 0, text);
  }
});

test('ring sizes are powers of two from 256 KiB to 1 GiB', () => {
  for (let power = 18; power <= 30; power++) {
    assert.equal(parseRingSize(String(2 ** power)), 2 ** power);
  }
  for (const text of ['128K', '300K', '3M', '2G']) assert.equal(columnOf(parseRingSize, text), 0);
});

test('counts', () => {
  assert.equal(parseCount('1'), 1);
  assert.equal(parseCount('1000000'), 1_000_000);
  for (const text of ['', '0', '-1', '1.5', '1e3', 'all', '99999999999999999999']) {
    assert.equal(columnOf(parseCount, text), 0, text);
  }
});

test('times', () => {
  assert.equal(parseTime('5s'), 5e9);
  assert.equal(parseTime('1m30s'), 90e9);
  for (const text of ['0s', '5', '600h']) assert.equal(columnOf(parseTime, text), 0, text);
});

test('engines and formats', () => {
  assert.equal(parseEngine('auto'), 'auto');
  assert.equal(parseEngine('jump'), 'jump');
  assert.equal(parseEngine('kernel'), 'kernel');
  assert.throws(() => parseEngine('trap'), /later version/);
  assert.throws(() => parseEngine('x'), /no engine 'x'/);
  assert.equal(parseFormat('json'), 'json');
  assert.equal(parseFormat('text'), 'text');
  assert.throws(() => parseFormat('raw'), /no format 'raw'/);
  assert.deepEqual(collect('b', collect('a')), ['a', 'b']);
});

test('every number that a parser accepts is one that it can hold', () => {
  for (const parse of [parseCount, parseSize]) {
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9]{0,20}[KMGkB.]{0,2}$/), (text) => {
        try {
          const value = parse(text);
          return Number.isSafeInteger(value) && value > 0;
        } catch (error) {
          return error instanceof TraplineError;
        }
      }),
    );
  }
});

test('the command is what stands behind the first --', () => {
  assert.deepEqual(splitWords(['trace', 'a']), { own: ['trace', 'a'] });
  assert.deepEqual(splitWords(['trace', 'a', '--']), { own: ['trace', 'a'], command: [] });
  assert.deepEqual(splitWords(['trace', 'a', '--', 'sh', '-c', 'x', '--', 'y']), {
    own: ['trace', 'a'],
    command: ['sh', '-c', 'x', '--', 'y'],
  });
});

/** What the options of some words come to. */
function parsed(words: string): object {
  const program = new Command().exitOverride();
  addTrace(program, undefined, () => undefined);
  const [command = assert.fail()] = program.commands;
  refuseReplacing(command);
  // Only what was written is asked for, not what would be done.
  command.action(() => undefined);
  program.parse(['trace', ...words.split(' ')], { from: 'user' });
  return command.opts();
}

test('options that are given twice collect, or are refused, and never replace', () => {
  const collected = parsed(
    '--filter a>1 --filter b>2 -p 1 -p 2,3 --tid 4 --tid 5 --uid 0 --uid 1 --tree 6 --tree 7 --exclude x --exclude y',
  );
  assert.deepEqual(collected, {
    ...plain,
    filter: ['a>1', 'b>2'],
    pid: [1, 2, 3],
    tid: [4, 5],
    uid: [0, 1],
    tree: [6, 7],
    exclude: ['x', 'y'],
  });
  for (const [flag, one, other] of [
    ['--comm', 'a', 'b'],
    ['--exe', 'a', 'b'],
    ['--cgroup', '/a', '/b'],
    ['--probes', 'a', 'b'],
    ['-o', 'a', 'b'],
    ['-n', '1', '2'],
    ['--duration', '1s', '2s'],
    ['--format', 'text', 'json'],
    ['--engine', 'jump', 'kernel'],
    ['--ring-size', '1M', '2M'],
    ['--ring-budget', '64M', '65M'],
  ] as const) {
    assert.throws(
      () => parsed(`${flag} ${one} ${flag} ${other}`),
      /only one of them can hold/,
      flag,
    );
    parsed(`${flag} ${one} ${flag} ${one}`);
  }
  assert.throws(() => parsed('--follow --no-follow'), /--no-follow after --follow: only one/);
  parsed('-v -v');
});

const plain: TraceOptions = { format: 'text', engine: 'auto' };

test('options that contradict one another are refused', () => {
  const cases: readonly (readonly [
    RegExp,
    Partial<TraceOptions>,
    (string[] | undefined)?,
    string[]?,
  ])[] = [
    [/which program/, {}],
    [/no probe was named/, { pid: [1] }, undefined, []],
    [/no command behind/, {}, []],
    [/not both/, { pid: [1] }, ['ls']],
    [/not both/, { tid: [1] }, ['ls']],
    [/not both/, { all: true }, ['ls']],
    [/every process already/, { all: true, pid: [1] }],
    [/no events with --count/, { pid: [1], count: true, number: 1 }],
    [/no events with --count/, { pid: [1], count: true, output: 'x' }],
    [/leaves nothing/, { pid: [1], count: true, quiet: true }],
    [/contradict/, { pid: [1], quiet: true, verbose: true }],
  ];
  for (const [expected, options, command, probes = ['f@x']] of cases) {
    const request = { probes, options: { ...plain, ...options } };
    const whole = command === undefined ? request : { ...request, command };
    assert.throws(() => checked(whole), expected, JSON.stringify(options));
  }
});

test('--probes takes no standard input', () => {
  const options = { ...plain, pid: [1], probes: '-' };
  assert.throws(() => checked({ probes: [], options }), {
    code: 'usage',
    message: /takes a file, and not standard input/,
  });
});

test('options that go together are let through', () => {
  const fine: readonly (readonly [Partial<TraceOptions>, (string[] | undefined)?, string[]?])[] = [
    [{}, undefined, ['1234:0x55d0c4a3b2c0 %di']],
    [{}, undefined, ['p:a/b 1234:0x55d0c4a3b2c0']],
    [{ pid: [1], probes: 'file' }, undefined, []],
    [{ pid: [1] }],
    [{ tid: [1] }],
    [{ pid: [1], tid: [2] }],
    [{ all: true }],
    [{}, ['ls', '-l']],
    [{ count: true, duration: 1 }, ['ls']],
  ];
  for (const [options, command, probes = ['f@x']] of fine) {
    const request = { probes, options: { ...plain, ...options } };
    const whole = command === undefined ? request : { ...request, command };
    assert.equal(checked(whole), whole);
  }
});
