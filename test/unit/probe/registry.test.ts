import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { fileOffset } from '../../../src/base/brand.ts';
import { ProbeRegistry, type ProbeKey, type Registration } from '../../../src/probe/registry.ts';

const key = (device: string, inode: bigint, offset: number): ProbeKey => ({
  device,
  inode,
  offset: fileOffset(offset),
});

function textOf(at: ProbeKey): string {
  return `${at.device} ${at.inode.toString().padStart(20)} ${at.offset}`;
}

test('the first consumer creates a probe, the last removes it', () => {
  const registry = new ProbeRegistry<string>();
  const first = registry.register(key('fe:01', 7n, 16), 'zfree@zsh', 'one');
  const second = registry.register(key('fe:01', 7n, 16), 'another name', 'two');
  assert.equal(first.isFirst, true);
  assert.equal(second.isFirst, false);
  assert.equal(second.probe, first.probe);
  assert.equal(first.probe.name, 'zfree@zsh');
  assert.deepEqual(first.probe.consumers, ['one', 'two']);
  assert.equal(registry.size, 1);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  assert.deepEqual(second.probe.consumers, ['two']);
  assert.equal(registry.probeAt(key('fe:01', 7n, 16)), second.probe);
  second[Symbol.dispose]();
  assert.equal(registry.size, 0);
  assert.equal(registry.probeAt(key('fe:01', 7n, 16)), undefined);
  const again = registry.register(key('fe:01', 7n, 16), 'zfree@zsh', 'three');
  assert.equal(again.isFirst, true);
  second[Symbol.dispose]();
  assert.deepEqual(again.probe.consumers, ['three']);
});

test('the same consumer twice counts twice', () => {
  const registry = new ProbeRegistry<string>();
  const first = registry.register(key('fe:01', 7n, 16), 'f@x', 'one');
  const second = registry.register(key('fe:01', 7n, 16), 'f@x', 'one');
  first[Symbol.dispose]();
  assert.deepEqual(second.probe.consumers, ['one']);
});

test('the probes of a file, and of a part of it', () => {
  const registry = new ProbeRegistry<number>();
  for (const offset of [300, 100, 200]) registry.register(key('fe:01', 7n, offset), 'f', 0);
  registry.register(key('fe:01', 8n, 100), 'f', 0);
  registry.register(key('fe:01', 6n, 100), 'f', 0);
  registry.register(key('fe:02', 7n, 100), 'f', 0);
  const offsets = (from?: number, to?: number): number[] =>
    registry.probesOf({ device: 'fe:01', inode: 7n }, from, to).map((probe) => probe.key.offset);
  assert.deepEqual(offsets(), [100, 200, 300]);
  assert.deepEqual(offsets(100, 300), [100, 200]);
  assert.deepEqual(offsets(101), [200, 300]);
  assert.deepEqual(offsets(301), []);
  assert.deepEqual(registry.probesOf({ device: 'fe:03', inode: 7n }), []);
});

test('like a plain list of registrations, whatever happens', () => {
  const keys = fc.record({
    device: fc.constantFrom('00:28', 'fe:01'),
    inode: fc.constantFrom(1n, 2n ** 63n),
    offset: fc.nat({ max: 5 }).map((offset) => fileOffset(offset)),
  });
  const steps = fc.array(fc.record({ key: keys, consumer: fc.nat({ max: 2 }), removed: fc.nat() }));
  fc.assert(
    fc.property(steps, (list) => {
      const registry = new ProbeRegistry<number>();
      const model: { at: string; registration: Registration<number> }[] = [];
      for (const step of list) {
        if (step.removed % 3 === 0 && model.length > 0) {
          const [entry] = model.splice(step.removed % model.length, 1);
          entry?.registration[Symbol.dispose]();
        } else {
          const registration = registry.register(step.key, 'f', step.consumer);
          const at = textOf(step.key);
          assert.equal(registration.isFirst, !model.some((entry) => entry.at === at));
          model.push({ at, registration });
        }
        const expected = new Map<string, number[]>();
        for (const { at, registration } of model) {
          expected.set(at, [...(expected.get(at) ?? []), registration.consumer]);
        }
        assert.deepEqual(
          [...registry].map((probe) => [
            textOf(probe.key),
            probe.consumers.toSorted((a, b) => a - b),
          ]),
          [...expected]
            .map(([at, consumers]) => [at, consumers.toSorted((a, b) => a - b)] as const)
            .toSorted(([a], [b]) => (a < b ? -1 : 1)),
        );
      }
    }),
    { numRuns: 500 },
  );
});
