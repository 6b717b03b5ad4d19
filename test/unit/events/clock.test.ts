import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';

import { TraplineError } from '../../../src/base/errors.ts';
import { Clock } from '../../../src/events/clock.ts';

function convert(clock: Clock, ticks: bigint): bigint {
  clock.convert(Number(ticks & 0xffff_ffffn), Number(ticks >> 32n));
  return BigInt(clock.seconds) * 1_000_000_000n + BigInt(clock.nanoseconds);
}

function distance(left: bigint, right: bigint): bigint {
  return left > right ? left - right : right - left;
}

/** Any uptime up to 30 years: 2^53 ns are 104 days. */
const uptime = fc.bigInt(0n, 10n ** 18n);
/** In Hz. */
const rate = fc.bigInt(500_000_000n, 6_000_000_000n);

describe('the clock', () => {
  it('agrees with exact arithmetic to less than 100 ns, within and beyond the points', () => {
    fc.assert(
      fc.property(
        uptime,
        fc.bigInt(0n, 2n ** 63n),
        rate,
        fc.bigInt(10n ** 6n, 10n ** 10n),
        fc.bigInt(0n, 3600n * 10n ** 10n),
        (start, ticks, hertz, interval, ahead) => {
          const span = (interval * hertz) / 10n ** 9n;
          const clock = new Clock(
            { ticks, nanoseconds: start },
            { ticks: ticks + span, nanoseconds: start + interval },
          );
          const exact = start + (ahead * interval) / span;
          assert.ok(distance(convert(clock, ticks + ahead), exact) < 100n);
        },
      ),
    );
  });

  it('never runs backwards, and stays near the truth when calibrations are noisy', () => {
    const noise = 50;
    fc.assert(
      fc.property(
        uptime,
        rate,
        fc.array(fc.integer({ min: -noise, max: noise }), { minLength: 2, maxLength: 40 }),
        fc.array(fc.bigInt(0n, 40n * 10n ** 9n), { minLength: 2, maxLength: 60 }),
        (start, hertz, noises, asked) => {
          const ticksAt = (time: bigint): bigint => ((start + time) * hertz) / 10n ** 9n;
          const point = (at: number) => {
            const time = BigInt(at) * 10n ** 9n;
            const nanoseconds = start + 1000n + time + BigInt(noises[at] ?? 0);
            return { ticks: ticksAt(time), nanoseconds };
          };
          const clock = new Clock(point(0), point(1));
          const before = convert(clock, ticksAt(10n ** 9n + 1n));
          let previous = 0n;
          let at = 2;
          for (const time of asked.toSorted((left, right) => Number(left - right))) {
            while (at < noises.length && BigInt(at) * 10n ** 9n <= time) clock.add(point(at++));
            const known = BigInt(at - 1) * 10n ** 9n;
            if (time > known + 10n ** 9n) break;
            const value = convert(clock, ticksAt(time));
            assert.ok(value >= previous);
            assert.ok(distance(value, start + 1000n + time) < BigInt(8 * noise));
            previous = value;
          }
          assert.equal(convert(clock, ticksAt(10n ** 9n + 1n)), before, 'the past stays');
        },
      ),
    );
  });

  it('is monotone over the halves of the counter and over jumps of the clock', () => {
    const ticks = 2n ** 32n * 7n - 3_000_000_000n;
    const clock = new Clock({ ticks, nanoseconds: 5n }, 3e9);
    clock.add({ ticks: ticks + 1_500_000_000n, nanoseconds: 10n ** 12n });
    clock.add({ ticks: ticks + 3_500_000_000n, nanoseconds: 10n ** 12n + 1n });
    let previous = -1n;
    for (let at = 0n; at < 5_000_000_000n; at += 1_234_567n) {
      const value = convert(clock, ticks + at);
      assert.ok(value >= previous);
      previous = value;
    }
    assert.ok(previous > 10n ** 12n);
  });

  it('makes an error good within a second, without a step', () => {
    const clock = new Clock({ ticks: 0n, nanoseconds: 0n }, 1e9);
    clock.add({ ticks: 1_000_000_000n, nanoseconds: 1_000_500_000n });
    assert.equal(convert(clock, 1_000_000_000n), 1_000_000_000n);
    assert.ok(distance(convert(clock, 2_000_000_000n), 2_001_000_000n) < 1_000n);
  });

  it('finds the key of a time again', () => {
    const clock = new Clock({ ticks: 10n ** 15n, nanoseconds: 10n ** 17n }, 2.5e9);
    const key = clock.keyAt(10n ** 17n + 4_000_000_000n);
    clock.convertKey(key + 0.5);
    assert.deepEqual([clock.seconds, clock.nanoseconds], [100_000_004, 0]);
    assert.equal(key, clock.keyOf(10n ** 15n + 10_000_000_000n));
  });

  it('takes any counter a target may have written', () => {
    const clock = new Clock({ ticks: 10n ** 15n, nanoseconds: 10n ** 9n }, 3e9);
    fc.assert(
      fc.property(fc.nat(0xffff_ffff), fc.nat(0xffff_ffff), (low, high) => {
        clock.convert(low, high);
        assert.ok(clock.seconds >= 0 && Number.isInteger(clock.seconds));
        assert.ok(Number.isInteger(clock.nanoseconds) && clock.nanoseconds < 1e9);
        assert.ok(clock.nanoseconds >= 0);
      }),
    );
  });

  it('refuses points that run backwards', () => {
    const clock = new Clock({ ticks: 100n, nanoseconds: 100n }, 1e9);
    const refused = { code: 'bad-input' };
    assert.throws(() => clock.add({ ticks: 100n, nanoseconds: 200n }), TraplineError);
    assert.throws(() => clock.add({ ticks: 200n, nanoseconds: 99n }), refused);
    assert.throws(() => new Clock({ ticks: 1n, nanoseconds: 1n }, 0), refused);
  });
});
