import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { TraplineError } from '../../../src/base/errors.ts';
import {
  formatCount,
  formatDuration,
  formatPercent,
  parseDuration,
} from '../../../src/screen/numbers.ts';

test('durations for people', () => {
  const table: readonly (readonly [nanoseconds: number | bigint, text: string])[] = [
    [0, '0 ns'],
    [1, '1 ns'],
    [1.04, '1 ns'],
    [8.1, '8.1 ns'],
    [9.96, '10 ns'],
    [840, '840 ns'],
    [999.4, '999 ns'],
    [999.5, '1 µs'],
    [1000n, '1 µs'],
    [1_234, '1.2 µs'],
    [1_200_000, '1.2 ms'],
    [25_000_000n, '25 ms'],
    [999_499_999, '999 ms'],
    [999_500_000, '1 s'],
    [1_500_000_000, '1.5 s'],
    [59_499_999_999, '59 s'],
    [59_500_000_000, '1m 00s'],
    [90_000_000_000, '1m 30s'],
    [3_599_400_000_000, '59m 59s'],
    [3_599_500_000_000, '1h 00m'],
    [7_500_000_000_000, '2h 05m'],
    [-1500, '-1.5 µs'],
  ];
  for (const [nanoseconds, text] of table) assert.equal(formatDuration(nanoseconds), text);
});

test('durations of a command line', () => {
  const table: readonly (readonly [text: string, nanoseconds: number])[] = [
    ['5s', 5e9],
    ['200ms', 2e8],
    ['1m30s', 90e9],
    ['1.5s', 1.5e9],
    ['0s', 0],
    ['100us', 1e5],
    ['100µs', 1e5],
    ['100μs', 1e5],
    ['7ns', 7],
    ['1h1m1s1ms1us1ns', 3_661_001_001_001],
    ['0.1s', 1e8],
  ];
  for (const [text, nanoseconds] of table) assert.equal(parseDuration(text), nanoseconds, text);
});

test('durations that are refused, with their column', () => {
  // ^ marks the column; it is not part of the text.
  for (const marked of [
    '^',
    '^5',
    '^s',
    '^-5s',
    '^ 5s',
    '5s^ ',
    '1m^30',
    '1m^x',
    '30s^1m',
    '1s^1s',
    '^1.s',
    '^5S',
    '^99999999h',
    '^1e3s',
  ]) {
    const column = marked.indexOf('^');
    const text = marked.replace('^', '');
    assert.throws(
      () => parseDuration(text),
      (error) => {
        assert.ok(error instanceof TraplineError);
        assert.equal(error.code, 'usage');
        assert.deepEqual(error.position, { text, column }, text);
        assert.match(error.hint ?? '', /1m30s/);
        return true;
      },
    );
  }
});

test('any text is a duration or refused', () => {
  const texts = fc.array(fc.constantFrom('1', '0', '.', 's', 'm', 'n', 'u', 'h', 'µ', ' ', '-'));
  fc.assert(
    fc.property(texts, (parts) => {
      try {
        assert.ok(Number.isSafeInteger(parseDuration(parts.join(''))));
      } catch (error) {
        if (!(error instanceof TraplineError)) throw error;
        assert.ok((error.position?.column ?? Infinity) <= parts.join('').length);
      }
    }),
    { numRuns: 3000 },
  );
});

test('a duration read back differs by its rounding only', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 3_590e9 }), (nanoseconds) => {
      const back = parseDuration(formatDuration(nanoseconds).replaceAll(' ', ''));
      assert.ok(Math.abs(back - nanoseconds) <= nanoseconds * 0.051, formatDuration(nanoseconds));
    }),
  );
});

test('counts', () => {
  const table: readonly (readonly [value: number | bigint, text: string])[] = [
    [0, '0'],
    [999, '999'],
    [1000, '1,000'],
    [-1_234_567, '-1,234,567'],
    [2n ** 64n, '18,446,744,073,709,551,616'],
    [1234.5678, '1,234.5678'],
    [Number.NaN, 'NaN'],
    [1e21, '1e+21'],
  ];
  for (const [value, text] of table) assert.equal(formatCount(value), text);
  fc.assert(
    fc.property(fc.bigInt(), (value) => {
      assert.equal(formatCount(value), value.toLocaleString('en-US'));
    }),
  );
});

test('shares', () => {
  const table: readonly (readonly [part: number | bigint, whole: number | bigint, text: string])[] =
    [
      [1, 8, '12.5 %'],
      [1n, 3n, '33.3 %'],
      [0, 5, '0.0 %'],
      [5, 5, '100.0 %'],
      [1, 200, '0.50 %'],
      [0.9949, 100, '0.99 %'],
      [0.996, 100, '1.0 %'],
      [1, 1_000_000, '<0.01 %'],
      [-1, 1_000_000, '>-0.01 %'],
      [1, 0, '–'],
      [0, 0, '–'],
    ];
  for (const [part, whole, text] of table) assert.equal(formatPercent(part, whole), text);
  assert.equal(formatPercent(0.25), '25.0 %');
});
