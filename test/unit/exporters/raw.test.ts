import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';

import { TraplineError } from '../../../src/base/errors.ts';
import { Clock } from '../../../src/events/clock.ts';
import { layoutRecord } from '../../../src/events/layout.ts';
import { readRaw } from '../../../src/exporters/raw-reader.ts';
import { RawExporter } from '../../../src/exporters/raw.ts';
import { PAIR, TaskWriter, makeSegment } from '../events/writer.ts';

const TEXT = layoutRecord([{ name: 's', type: 'string', canFault: false, maxLength: 64 }]);

/** A file of two tasks' records, drained several times over several laps, and its clock. */
function record(rounds: number): { file: Buffer; written: number } {
  const { buffer, layout, reader } = makeSegment(2, 4096, [PAIR, TEXT]);
  const clock = new Clock({ ticks: 0n, nanoseconds: 0n }, 1e9);
  const pieces: Buffer[] = [];
  const exporter = new RawExporter((bytes) => pieces.push(Buffer.from(bytes)), clock);
  const writers = [0, 1].map((context) => {
    const writer = new TaskWriter(buffer, layout, context);
    writer.claim(100 + context, 50, `task${context}`);
    return writer;
  });
  let time = 0;
  let written = 0;
  for (let round = 0; round < rounds; round++) {
    for (let at = 0; at < 60; at++) {
      time += 10;
      const writer = writers[at % 2];
      assert.ok(writer?.record(PAIR, 0, at % 2, BigInt(time), [time, at]));
    }
    const position = writers[0]?.reserve(TEXT.maxBytes) ?? 0;
    writers[0]?.put(position, TEXT.sizeOffset ?? 0, TEXT.maxBytes);
    writers[0]?.put(position, TEXT.fields[0]?.offset ?? 0, TEXT.fixedBytes, 5);
    writers[0]?.putBytes(position, TEXT.fixedBytes, Buffer.from('hello'));
    writers[0]?.clock(position, BigInt(++time));
    writers[0]?.commit(position, 1, 0);
    written += exporter.drain(reader, round);
    const passed = BigInt(round + 1) * 10n ** 9n;
    clock.add({ ticks: passed, nanoseconds: passed });
  }
  return { file: Buffer.concat(pieces), written };
}

describe('raw records', () => {
  it('come back as the events they were, in order', () => {
    const { file, written } = record(10);
    assert.equal(written, 610);
    const { batch, truncated } = readRaw(file, 'test');
    assert.equal(truncated, false);
    const events = Array.from(batch, (event) => event.toEvent());
    assert.equal(events.length, written);
    for (const [at, event] of events.entries()) {
      if (at > 0) assert.ok(event.ts > (events[at - 1]?.ts ?? 0n));
      if (event.event === 'group:event1') assert.deepEqual(event.args['s'], 'hello');
      else assert.equal(event.args['a'], event.ts);
    }
    assert.deepEqual(
      [events[1]?.comm, events[1]?.tid, events[1]?.pid, events[1]?.cpu, events[1]?.address],
      ['task1', 101, 50, 1, 0x5500_0000_1000n],
    );
  });

  it('a file that was cut off is good up to there, wherever it was cut', () => {
    const { file } = record(2);
    for (let length = 8; length < file.length; length += 7) {
      const { batch } = readRaw(file.subarray(0, length), 'test');
      assert.ok(batch.count <= 122);
    }
    assert.ok(readRaw(file.subarray(0, file.length - 1), 'test').truncated);
  });

  it('a record without the stamp of its place is damaged', () => {
    const { file } = record(1);
    const stamp = Buffer.alloc(4);
    stamp.writeUInt32LE((4096 + 32) / 8);
    file.writeUInt32LE(7, file.indexOf(stamp, file.indexOf('"source"')));
    assert.throws(() => readRaw(file, 'test'), /^TraplineError: test: a damaged record at offset/);
  });

  it('another file is refused', () => {
    for (const other of ['', 'TRAP', 'hello, world']) {
      assert.throws(() => readRaw(Buffer.from(other), 'x'), { code: 'bad-input' });
    }
  });

  it('a damaged file gives events or an error of ours, never anything else', () => {
    const { file } = record(2);
    const change = fc.record({ at: fc.nat(file.length - 1), value: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 5 }), (changes) => {
        const damaged = Buffer.from(file);
        for (const { at, value } of changes) damaged[at] = value;
        try {
          readRaw(damaged, 'test').batch.forEach((event) => event.toEvent());
        } catch (error) {
          assert.ok(error instanceof TraplineError, String(error));
        }
      }),
      { numRuns: 300 },
    );
  });
});
