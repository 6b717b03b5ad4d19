/** The bell: announcements are heard and told of, whatever the main thread does, and nothing of it stays. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

import { address } from '../../../src/base/brand.ts';
import { DisposableStack } from '../../../src/base/dispose.ts';
import { PAGE_BYTES } from '../../../src/base/page.ts';
import { SegmentHeader } from '../../../src/events/layout.ts';
import { Bell } from '../../../src/session/bell/bell.ts';
import type { SegmentHandle } from '../../../src/session/protocol.ts';
import { wakeAll } from '../../../src/sys/futex.ts';
import { mapMemory, Protection, type Mapping } from '../../../src/sys/mapping.ts';

/** As far as the bell looks at a segment. */
class Segment implements Disposable {
  readonly handle: SegmentHandle;
  readonly #mapping: Mapping = mapMemory(PAGE_BYTES);
  readonly #words = new Int32Array(this.#mapping.view);

  constructor(source: number) {
    const shape = { events: 1, contexts: 1, counters: 1, ringBytes: 4096 };
    const { address: at } = this.#mapping;
    this.handle = {
      kind: 'segment',
      source,
      pid: 1,
      address: at,
      shape: shape as unknown as SegmentHandle['shape'], // not looked at
      samePidNamespace: true,
    };
  }

  get heard(): number {
    return Atomics.load(this.#words, SegmentHeader.heard / 4);
  }

  announce(): number {
    const number = Atomics.add(this.#words, SegmentHeader.announced / 4, 1) + 1;
    wakeAll(address(this.handle.address + BigInt(SegmentHeader.announced)));
    return number;
  }

  /** Who touches it now dies of it. */
  close(): void {
    this.#mapping.protect(Protection.none);
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}

/** Turns of the event loop until something holds. */
async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!holds()) {
    assert.ok(performance.now() < deadline, `never: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function threads(): string[] {
  return readdirSync('/proc/self/task').flatMap((task) => {
    try {
      return [readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim()];
    } catch {
      return []; // it has ended
    }
  });
}

function bells(): number {
  return threads().filter((name) => name === 'trapline-bell').length;
}

test('rings for each source, and hears while the main thread does something else', async () => {
  using stack = new DisposableStack();
  const segments = [1, 2, 3].map((source) => stack.use(new Segment(source)));
  let rings = 0;
  const bell = new Bell(() => rings++);
  segments[0]?.announce();
  bell.watch(segments.map(({ handle }) => handle));
  await until('what was announced before is told of', () => rings > 0);
  for (const segment of segments) {
    const before = rings;
    const number = segment.announce();
    const deadline = performance.now() + 20_000;
    // No turn of the event loop: the main thread is busy.
    while (segment.heard !== number) assert.ok(performance.now() < deadline, 'not heard');
    assert.equal(rings, before);
    await until('it rings', () => rings > before);
  }
  assert.equal(bells(), 1);
  await bell.end();
  await until('its thread is gone', () => bells() === 0);
});

test('what is forgotten is not touched any more', async () => {
  using stack = new DisposableStack();
  let rings = 0;
  const bell = new Bell(() => rings++);
  const [first, ...others] = Array.from({ length: 20 }, (_, source) =>
    stack.use(new Segment(source)),
  );
  assert.ok(first !== undefined);
  bell.watch([first.handle]);
  for (const segment of others) {
    bell.watch([segment.handle]);
    segment.announce();
    await bell.forget([segment.handle.source]);
    segment.close();
    const before = rings;
    const number = first.announce();
    await until('it still rings for who stays', () => rings > before && first.heard === number);
  }
  const last = bell.forget([first.handle.source]);
  await bell.end();
  await last;
  first.close();
  await bell.forget([first.handle.source]);
  bell.watch([first.handle]);
});

test('more sources than the kernel waits for are looked at all the same', async () => {
  using stack = new DisposableStack();
  let rings = 0;
  const bell = new Bell(() => rings++);
  const segments = Array.from({ length: 300 }, (_, source) => stack.use(new Segment(source)));
  bell.watch(segments.map(({ handle }) => handle));
  await until('it has begun', () => rings > 0);
  for (const segment of [segments[0], segments[127], segments[128], segments[299]]) {
    const before = rings;
    const number = segment?.announce();
    await until('it rings', () => rings > before);
    assert.equal(segment?.heard, number);
  }
  await bell.end();
});

test('a target that announces on and on is told of now and then', async () => {
  using segment = new Segment(1);
  let rings = 0;
  const bell = new Bell(() => rings++);
  bell.watch([segment.handle]);
  await until('it has begun', () => rings > 0);
  const [began, first] = [performance.now(), rings];
  let announced = 0;
  while (performance.now() < began + 100) {
    for (let each = 0; each < 100; each++) announced = segment.announce();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const [milliseconds, rung] = [performance.now() - began, rings - first];
  assert.ok(rung > 0 && rung <= 2 * milliseconds + 1, `${rung} times in ${milliseconds} ms`);
  await until('the last one is heard', () => segment.heard === announced);
  await bell.end();
});

function footprint(): readonly number[] {
  return [
    readFileSync('/proc/self/maps', 'utf8').split('\n').length,
    readdirSync('/proc/self/fd').length,
    bells(),
  ];
}

test('nothing of it stays', async () => {
  using segment = new Segment(1);
  const footprints: (readonly number[])[] = [];
  for (let times = 0; times < 200; times++) {
    const bell = new Bell(() => {});
    for (let more = 0; more < 5; more++) bell.watch([segment.handle]);
    segment.announce();
    await bell.forget([segment.handle.source]);
    await bell.end();
    footprints.push(footprint());
  }
  // libc keeps a stack for the next thread, and V8 what it has found room for.
  const [, descriptors, threadsLeft] = footprints[100] ?? [];
  assert.deepEqual(footprints.at(-1)?.slice(1), [descriptors, threadsLeft]);
  const [before = 0] = footprints[100] ?? [];
  const [after = 0] = footprints.at(-1) ?? [];
  assert.ok(after <= before + 8, `from ${before} to ${after} mappings`);
});
