import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { Ending, isForeground } from '../../../src/cli/ending.ts';

/** Signals that a test sends. */
class FakeSignals extends EventEmitter {
  send(signal: NodeJS.Signals): void {
    this.emit(signal, signal);
  }
}

test('the first reason counts, and every signal is told of', async () => {
  const signals = new FakeSignals();
  const seen: [string, boolean][] = [];
  {
    using ending = new Ending(signals);
    ending.onSignal = (signal, first): void => void seen.push([signal, first]);
    assert.equal(ending.reason, undefined);
    signals.send('SIGTERM');
    signals.send('SIGINT');
    ending.ask({ kind: 'count' });
    assert.deepEqual(await ending.asked, { kind: 'signal', signal: 'SIGTERM' });
    assert.deepEqual(ending.reason, { kind: 'signal', signal: 'SIGTERM' });
  }
  assert.deepEqual(seen, [
    ['SIGTERM', true],
    ['SIGINT', false],
  ]);
  assert.deepEqual(signals.eventNames(), [], 'handlers are left');
});

test('a signal after another reason is not the first', () => {
  const signals = new FakeSignals();
  using ending = new Ending(signals);
  const seen: boolean[] = [];
  ending.onSignal = (_, first): void => void seen.push(first);
  ending.ask({ kind: 'target-ended' });
  signals.send('SIGINT');
  assert.deepEqual(seen, [false]);
  assert.deepEqual(ending.reason, { kind: 'target-ended' });
});

/** /proc/PID/stat of a program whose name holds what separates the fields. */
function stat(group: number, foreground: number): string {
  return `12 (a ) b) S 1 ${group} 12 34816 ${foreground} 4194304 0`;
}

test('a duration ends by itself', async () => {
  using ending = new Ending(new FakeSignals());
  ending.after(2e6);
  assert.deepEqual(await ending.asked, { kind: 'duration' });
});

test('the foreground process group is told from the others', () => {
  assert.equal(isForeground(stat(12, 12)), true);
  assert.equal(isForeground(stat(12, 13)), false);
  assert.equal(isForeground(stat(12, -1)), false);
  assert.equal(isForeground(stat(0, 0)), false);
  assert.equal(typeof isForeground(), 'boolean');
});
