import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';

import { Clock } from '../../../src/events/clock.ts';
import { FAULT, type TraceEvent } from '../../../src/events/event.ts';
import { layoutRecord, type FieldType, type RecordLayout } from '../../../src/events/layout.ts';
import { EventMerger } from '../../../src/events/merge.ts';
import { JsonExporter } from '../../../src/exporters/json.ts';
import { LineBuffer } from '../../../src/exporters/line-buffer.ts';
import { TextExporter } from '../../../src/exporters/text.ts';
import { TaskWriter, makeSegment } from '../events/writer.ts';

interface Value {
  readonly name: string;
  readonly type: FieldType;
  readonly value: bigint | string | Uint8Array | undefined;
}

/** Sends one event with these values through a ring; undefined is a fault. */
function lines(
  values: readonly Value[],
  options: { comm?: string; nanoseconds?: bigint; tid?: number; workBytes?: number } = {},
): { text: string; json: string; event: TraceEvent } {
  const layout = layoutRecord(
    values.map(({ name, type }) => ({
      name,
      type,
      canFault: true,
      ...(type === 'string' ? { maxLength: 512 } : {}),
    })),
    options.workBytes,
  );
  const time = options.nanoseconds ?? 5_678_123_456_499n;
  const segment = makeSegment(1, 8192, [layout]);
  const clock = new Clock({ ticks: 0n, nanoseconds: 0n }, 1e9);
  const merger = new EventMerger({ clock, now: () => time + 1n, marginNanoseconds: 0 });
  merger.add(segment.reader);
  const writer = new TaskWriter(segment.buffer, segment.layout, 0);
  writer.claim(options.tid ?? 1234, 1230, options.comm ?? 'zsh');
  write(writer, layout, values, time);
  const text = new LineBuffer(16);
  const json = new LineBuffer(16);
  let event: TraceEvent | undefined;
  merger.poll().forEach((view) => {
    new TextExporter().format(view, text);
    new JsonExporter().format(view, json);
    event = view.toEvent();
  });
  assert.ok(event !== undefined);
  return { text: text.written().toString(), json: json.written().toString(), event };
}

function write(
  writer: TaskWriter,
  layout: RecordLayout,
  values: readonly Value[],
  time: bigint,
): void {
  const position = writer.reserve(layout.maxBytes) ?? 0;
  writer.clock(position, time);
  writer.put(position, layout.sizeOffset ?? 0, layout.maxBytes);
  let faults = 0;
  let strings = layout.fixedBytes;
  for (const [at, { value }] of values.entries()) {
    const offset = layout.fields[at]?.offset ?? 0;
    if (value === undefined) faults |= 1 << at;
    else if (typeof value === 'bigint') {
      writer.put(position, offset, Number(value & 0xffff_ffffn), Number(value >> 32n));
    } else {
      const bytes = typeof value === 'string' ? Buffer.from(value) : value;
      writer.put(position, offset, strings, bytes.length);
      writer.putBytes(position, strings, bytes);
      strings += bytes.length;
    }
  }
  if (layout.faultOffset !== undefined) writer.put(position, layout.faultOffset, faults);
  writer.commit(position, 0, 2);
}

const ALL: readonly Value[] = [
  { name: 'ptr', type: 'x64', value: 0x5581_2345n },
  { name: 'size', type: 'u64', value: 2n ** 64n - 1n },
  { name: 'delta', type: 's64', value: BigInt.asUintN(64, -16n) },
  { name: 'byte', type: 's8', value: 0xf0n },
  { name: 'name', type: 'string', value: '/bin/zsh' },
  { name: 'bad', type: 'u32', value: undefined },
  { name: 'bads', type: 'string', value: undefined },
];

/** From the processor on, of a line at this time. */
function start(nanoseconds: bigint): string {
  return lines([], { nanoseconds }).text.slice(24, 55);
}

describe('text', () => {
  it('is the line that the kernel prints, without its flags', () => {
    assert.equal(
      lines(ALL).text,
      '             zsh-1234    [002]   5678.123456: event0: (0x550000001000) ptr=0x55812345 ' +
        'size=18446744073709551615 delta=-16 byte=-16 name="/bin/zsh" bad=(fault) bads=(fault)\n',
    );
  });

  it('rounds to microseconds and pads seconds as the kernel does', () => {
    assert.equal(start(1_999_999_500n), ' [002]      2.000000: event0: (');
    assert.equal(start(123_456_000_000_499n), ' [002]  123456.000000: event0: ');
  });

  it('a full name and a large id take what they need', () => {
    const { text } = lines([], { comm: 'fifteen-letters', tid: 4_194_304 });
    assert.ok(text.startsWith(' fifteen-letters-4194304 [002]   5678.1'));
  });

  it('has the columns of the formats in trace_output.c, as printf has them', () => {
    for (const [tid, nanoseconds] of [
      [1, 0n],
      [99_999, 12_345_000_001_000n],
      [1_234_567, 1_234_567_000_000_000n],
    ] as const) {
      const seconds = String(nanoseconds / 1_000_000_000n);
      const micros = String((nanoseconds % 1_000_000_000n) / 1000n);
      const format = '%16s-%-7d [%03d]  %5lu.%06lu: ';
      const expected = execFileSync('printf', [format, 'zsh', String(tid), '2', seconds, micros]);
      assert.ok(lines([], { tid, nanoseconds }).text.startsWith(`${expected.toString()}event0: `));
    }
  });

  it('control characters drive no terminal, and break no line', () => {
    const { text } = lines([{ name: 's', type: 'string', value: 'a\u001b[31m\n\u0085é' }], {
      comm: 'x\u001by',
    });
    assert.ok(text.endsWith(' s="a\\x1b[31m\\x0a\\x85é"\n'));
    assert.ok(text.includes('x\\x1by-'));
  });
});

describe('texts that were cut', () => {
  const long = 'l'.repeat(512);
  const values: readonly Value[] = [
    { name: 'a', type: 'string', value: long },
    { name: 'b', type: 'string', value: long.slice(1) },
    { name: 'c', type: 'string', value: `${long.slice(1)}\n` },
    { name: 'd', type: 'u8', value: 1n },
  ];

  it('are marked in lines for people, and are plain in JSON', () => {
    const { text, json } = lines(values, { workBytes: 8 });
    const shown = long.slice(1);
    assert.ok(text.endsWith(` a="${long}"... b="${shown}" c="${shown}\\x0a"... d=1\n`), text);
    assert.ok(json.includes(`"a":"${long}","b":"${shown}"`));
  });

  it('are none where it is no stub of ours that cuts them', () => {
    assert.ok(lines(values).text.includes(` a="${long}" b=`));
  });
});

describe('JSON', () => {
  it('is one object a line', () => {
    assert.equal(
      lines(ALL).json,
      '{"ts":"5678123456499","pid":1230,"tid":1234,"cpu":2,"comm":"zsh","event":"group:event0",' +
        '"address":"0x550000001000","args":{"ptr":1434526533,"size":"18446744073709551615",' +
        '"delta":-16,"byte":-16,"name":"/bin/zsh","bad":null,"bads":null}}\n',
    );
  });

  it('has no control characters, whatever names and texts have', () => {
    const hostile = '\u007f\u0080\u009b2Jé\u001b"\\';
    const { json } = lines(
      [
        { name: 's', type: 'string', value: hostile },
        { name: 'c', type: 'char', value: 0x9bn },
        { name: 'd', type: 'char', value: 0x7fn },
      ],
      { comm: 'z\u007f\u009bh' },
    );
    assert.doesNotMatch(json.trimEnd(), /\p{Cc}/u);
    assert.ok(json.includes('\\u007f\\u0080\\u009b2Jé\\u001b\\"'), json);
    const { comm, args } = JSON.parse(json);
    assert.deepEqual([comm, args], ['z\u007f\u009bh', { s: hostile, c: '\u009b', d: '\u007f' }]);
  });

  it('times below a second have no zeros in front', () => {
    assert.ok(lines([], { nanoseconds: 42n }).json.startsWith('{"ts":"42",'));
  });

  const edges: [FieldType, bigint, unknown][] = [
    ['u64', 2n ** 53n - 1n, 9_007_199_254_740_991],
    ['u64', 2n ** 53n, '9007199254740992'],
    ['s64', BigInt.asUintN(64, -(2n ** 53n) + 1n), -9_007_199_254_740_991],
    ['s64', BigInt.asUintN(64, -(2n ** 53n)), '-9007199254740992'],
    ['s64', 2n ** 63n, '-9223372036854775808'],
    ['x64', 2n ** 32n, 4_294_967_296],
    ['u8', 0x1ffn, 255],
    ['s16', 0x8000n, -32_768],
    ['s32', 0xffff_ffffn, -1],
    ['x32', 0xffff_ffffn, 4_294_967_295],
  ];
  for (const [type, value, expected] of edges) {
    it(`${type} ${value} is ${String(expected)}`, () => {
      assert.equal(JSON.parse(lines([{ name: 'v', type, value }]).json).args.v, expected);
    });
  }
});

describe('a string whose place is outside its record', () => {
  const layout = layoutRecord([{ name: 's', type: 'string', canFault: false, maxLength: 64 }]);
  const places: [string, number, number][] = [
    ['in the header', 0, 4],
    ['behind the end', layout.maxBytes + 8, 0],
    ['across the end', layout.maxBytes - 4, 5],
    ['longer than 32 bits can say', layout.fixedBytes, 0xffff_ffff],
  ];
  for (const [name, offset, length] of places) {
    it(`${name} is a fault`, () => {
      const { buffer, layout: segment, reader } = makeSegment(1, 8192, [layout]);
      const clock = new Clock({ ticks: 0n, nanoseconds: 0n }, 1e9);
      const merger = new EventMerger({ clock, now: () => 10n ** 9n });
      merger.add(reader);
      const writer = new TaskWriter(buffer, segment, 0);
      writer.claim(1, 1, 'x');
      const position = writer.reserve(layout.maxBytes) ?? 0;
      writer.put(position, layout.sizeOffset ?? 0, layout.maxBytes);
      writer.put(position, layout.fields[0]?.offset ?? 0, offset, length);
      writer.commit(position, 0, 0);
      const events = Array.from(merger.poll(), (event) => event.toEvent());
      assert.equal(events[0]?.args['s'], FAULT);
    });
  }
});

describe('any values', () => {
  const types: FieldType[] = ['u8', 'u16', 'u32', 'u64', 's8', 's16', 's32', 's64', 'x8', 'x64'];
  const integer = fc.record({
    name: fc.string({ minLength: 1 }),
    type: fc.constantFrom(...types),
    value: fc.option(fc.bigInt(0n, 2n ** 64n - 1n), { nil: undefined }),
  });
  const text = fc.record({
    name: fc.constantFrom('__proto__', 'toString', 'ä"\\', 'a'),
    type: fc.constant('string' as const), // the literal, for FieldType
    value: fc.oneof(fc.string({ maxLength: 40 }), fc.uint8Array({ maxLength: 60 })),
  });

  it('JSON, text and the object say the same', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(integer, text), { maxLength: 7 }), (raw) => {
        const values = raw.map((value, at) => ({ ...value, name: `${value.name}${at || ''}` }));
        const result = lines(values);
        const parsed = JSON.parse(result.json);
        assert.equal(result.json.indexOf('\n'), result.json.length - 1);
        assert.equal(result.text.indexOf('\n'), result.text.length - 1);
        assert.deepEqual(
          Object.keys(parsed.args).toSorted(),
          Object.keys(result.event.args).toSorted(),
        );
        for (const { name, type, value } of values) {
          const seen = result.event.args[name];
          const expected = expectedValue(type, value);
          assert.deepEqual(seen, expected);
          const json = Object.getOwnPropertyDescriptor(parsed.args, name)?.value;
          assert.equal(json, jsonValue(expected));
          if (typeof expected === 'number' || typeof expected === 'bigint') {
            const digits = type.startsWith('x') ? `0x${expected.toString(16)}` : `${expected}`;
            assert.ok(`${result.text.slice(0, -1)} `.includes(`=${digits} `));
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});

function expectedValue(type: FieldType, value: Value['value']): unknown {
  if (value === undefined) return FAULT;
  if (typeof value === 'string') return Buffer.from(value).toString();
  if (typeof value === 'object') return Buffer.from(value).toString();
  const bits = Number(type.slice(1));
  const wide = type.startsWith('s') ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
  return bits === 64 ? wide : Number(wide);
}

function jsonValue(value: unknown): unknown {
  if (value === FAULT) return null;
  if (typeof value !== 'bigint') return value;
  return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
}
