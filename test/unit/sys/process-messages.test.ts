import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as fc from 'fast-check';

import { pid, type Pid } from '../../../src/base/brand.ts';
import {
  ConnectorOperation,
  connectorRequest,
  ProcessTally,
  type ProcessChanges,
} from '../../../src/sys/process-messages.ts';

const EXIT = 0x8000_0000;
const TOKEN = 0xffff_ffff;

interface Crafted {
  readonly what: number;
  readonly data: readonly number[];
  readonly cpu?: number;
  readonly sequence?: number;
  readonly port?: number;
  readonly type?: number;
  readonly id?: number;
  readonly ack?: number;
}

/** One message as drivers/connector/cn_proc.c makes it: 76 bytes. */
function craft(message: Crafted): Buffer {
  const bytes = Buffer.alloc(76);
  const { what, data, cpu = 0, sequence = 0, port = 0, type = 3, id = 1, ack = 0 } = message;
  bytes.writeUInt32LE(76, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt32LE(port, 12);
  [id, 1, sequence, ack].forEach((value, index) => bytes.writeUInt32LE(value, 16 + 4 * index));
  bytes.writeUInt16LE(40, 32);
  bytes.writeUInt32LE(what, 36);
  bytes.writeUInt32LE(cpu, 40);
  data.forEach((value, index) => bytes.writeInt32LE(value, 52 + 4 * index));
  return bytes;
}

const fork = (child: number, process = child): Crafted => ({
  what: 1,
  data: [7, 7, child, process],
});
const exec = (process: number): Crafted => ({ what: 2, data: [process, process] });
const exit = (task: number, process = task): Crafted => ({ what: EXIT, data: [task, process] });
const acknowledge = (ack: number, errno: number): Crafted => ({ what: 0, data: [errno], ack });
const at = (cpu: number, sequence: number): Crafted => ({ ...fork(9), cpu, sequence });

/** Takes messages, each a datagram of its own, numbered as one cpu does. */
function tally(...messages: readonly Crafted[]): ProcessTally {
  const made = new ProcessTally(TOKEN);
  messages.forEach((message, sequence) => {
    const bytes = craft({ sequence, ...message });
    made.take(bytes, 0, bytes.byteLength);
  });
  return made;
}

const never = (): boolean => false;
const always = (): boolean => true;

function plain({ forked, executed, exited, lost }: ProcessChanges): unknown {
  return { forked: [...forked], executed: [...executed], exited: [...exited], lost };
}

test('a request is what the kernel expects', () => {
  const bytes = connectorRequest(ConnectorOperation.listen, 5);
  assert.equal(bytes.toString('hex', 0, 16), '28000000030000000000000000000000');
  assert.equal(bytes.toString('hex', 16), '010000000100000000000000050000000400000001000000');
});

test('events of whole processes are gathered, those of threads are not', () => {
  const made = tally(fork(20), fork(21, 20), exec(20), exit(21, 20), exit(20));
  assert.deepEqual(plain(made.changes(always)), {
    forked: [20],
    executed: [20],
    exited: [20],
    lost: false,
  });
  const nothing = { forked: [], executed: [], exited: [], lost: false };
  assert.deepEqual(plain(made.changes(never)), nothing);
});

test('a process whose first thread ended is asked about until all have', () => {
  const made = tally(exit(20));
  const asked: Pid[] = [];
  const answer = (value: boolean) => (process: Pid) => asked.push(process) > 0 && value;
  assert.equal(made.changes(answer(false)).exited.size, 0);
  assert.deepEqual([...made.changes(answer(true)).exited], [pid(20)]);
  assert.equal(made.changes(answer(true)).exited.size, 0);
  assert.deepEqual(asked, [20, 20]);
});

test('a thread that executes takes the place of the first one: no end', () => {
  const changes = tally(exit(20), exec(20)).changes(always);
  assert.deepEqual(plain(changes), { forked: [], executed: [20], exited: [], lost: false });
});

test('an id that is given away again is of a process that is over, whoever has it now', () => {
  const changes = tally(exit(20), fork(20)).changes(never);
  assert.deepEqual(plain(changes), { forked: [20], executed: [], exited: [20], lost: false });
});

test('only our own acknowledgement is taken', () => {
  assert.equal(tally(acknowledge(TOKEN, 0)).answer, undefined);
  assert.equal(tally(acknowledge(0, 0)).answer, 0); // the token and one, in 32 bits
  assert.equal(tally(acknowledge(0, 1)).answer, 1);
});

test('a gap in the numbers of a cpu is a loss, until it was told', () => {
  assert.equal(tally(at(0, 5), at(1, 90), at(0, 6), at(1, 91)).changes(never).lost, false);
  assert.equal(tally(at(0, 0xffff_ffff), at(0, 0)).changes(never).lost, false);
  const made = tally(at(0, 5), at(1, 90), at(0, 7));
  assert.equal(made.changes(never).lost, true);
  assert.equal(made.changes(never).lost, false);
});

test('after a loss that the socket told, the numbers begin anew', () => {
  const made = tally(at(0, 5), at(1, 90));
  made.lose();
  const take = (...messages: readonly Crafted[]): void =>
    messages.map(craft).forEach((bytes) => made.take(bytes, 0, bytes.byteLength));
  take(at(0, 6));
  assert.equal(made.changes(never).lost, true);
  take(at(0, 50), at(1, 200), at(0, 51));
  assert.equal(made.changes(never).lost, false);
  take(at(1, 202));
  assert.equal(made.changes(never).lost, true);
});

test('an overrun is a loss; other kinds, senders and events are passed over', () => {
  assert.equal(tally({ ...fork(9), type: 4 }).changes(never).lost, true);
  const passed = [
    { ...fork(9), type: 1 },
    { ...fork(9), port: 77, sequence: 50 },
    { ...fork(9), id: 4 },
    { what: 0x200, data: [9, 9] },
    { what: 0x4000_0000, data: [9, 9, 1, 1], sequence: 1 },
    { ...exec(10), sequence: 2 },
  ];
  const changes = tally(...passed.map((one) => ({ sequence: 0, ...one }))).changes(never);
  assert.deepEqual(plain(changes), { forked: [], executed: [10], exited: [], lost: false });
});

test('ids that no process can have are a loss', () => {
  for (const wrong of [0, -1, (1 << 22) + 1]) {
    const changes = tally(fork(wrong)).changes(never);
    assert.deepEqual(plain(changes), { forked: [], executed: [], exited: [], lost: true });
  }
});

test('a message that is cut anywhere is a loss, and nothing behind its end is read', () => {
  for (const [index, whole] of [fork(20), exec(20), exit(20)].map(craft).entries()) {
    for (let length = 1; length < whole.byteLength; length++) {
      const made = new ProcessTally(TOKEN);
      made.take(whole, 0, length); // the rest lies behind
      const changes = made.changes(always);
      assert.deepEqual(plain(changes), { forked: [], executed: [], exited: [], lost: true });
      // Cut within, and the lengths say so.
      const shorter = Buffer.from(whole);
      shorter.writeUInt32LE(length, 0);
      shorter.writeUInt16LE(Math.max(0, length - 36), 32);
      const cut = new ProcessTally(TOKEN);
      cut.take(shorter, 0, length);
      assert.equal(cut.changes(always).lost, length < (index === 0 ? 68 : 60), `${length}`);
    }
  }
});

const anyMessage: fc.Arbitrary<Crafted> = fc.record(
  {
    what: fc.constantFrom(0, 1, 2, 4, 0x100, 0x200, 0x4000_0000, EXIT),
    data: fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 4, maxLength: 6 }),
    port: fc.constantFrom(0, 0, 0, 12),
    type: fc.constantFrom(3, 3, 3, 1, 2, 16),
    id: fc.constantFrom(1, 1, 1, 2),
  },
  { requiredKeys: ['what', 'data'] },
);

test('property: several messages of a datagram give what each gives alone', () => {
  fc.assert(
    fc.property(fc.array(anyMessage, { maxLength: 40 }), (messages) => {
      const ours = messages.filter(
        ({ port = 0, type = 3, id = 1 }) => port === 0 && type === 3 && id === 1,
      );
      let sequence = 0;
      const bytes = Buffer.concat(
        messages.map((one) => craft({ ...one, sequence: ours.includes(one) ? sequence++ : 0 })),
      );
      const made = new ProcessTally(TOKEN);
      made.take(Buffer.concat([Buffer.alloc(4), bytes, Buffer.alloc(8, 255)]), 4, 4 + bytes.length);
      const { forked, executed, lost } = made.changes(never);
      const forks = ours.filter(({ what, data }) => what === 1 && data[2] === data[3]);
      const execs = ours.filter(({ what, data }) => what === 2 && data[0] === data[1]);
      assert.deepEqual([...forked], [...new Set(forks.map(({ data }) => data[2]))]);
      assert.deepEqual([...executed], [...new Set(execs.map(({ data }) => data[0]))]);
      assert.equal(lost, false);
    }),
  );
});

test('property: no bytes make it throw, and what is behind the end changes nothing', () => {
  const spoilt = fc
    .tuple(
      fc.array(anyMessage, { minLength: 1, maxLength: 3 }),
      fc.array(fc.tuple(fc.nat(), fc.nat(255))),
    )
    .map(([messages, changes]) => {
      const bytes = Buffer.concat(messages.map(craft));
      for (const [index, value] of changes) bytes[index % bytes.length] = value;
      return bytes;
    });
  const anything = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(spoilt, anything), fc.nat(), (bytes, cut) => {
      const end = cut % (bytes.length + 1);
      const [one, other] = [new ProcessTally(TOKEN), new ProcessTally(TOKEN)];
      one.take(bytes, 0, end);
      other.take(Buffer.concat([bytes.subarray(0, end), Buffer.alloc(100, 1)]), 0, end);
      assert.deepEqual(plain(one.changes(always)), plain(other.changes(always)));
    }),
  );
});
