import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Progress } from '../../../src/screen/progress.ts';

class Screen {
  readonly isTTY: boolean;
  readonly columns: number;
  written = '';

  constructor(isTTY = true, columns = 40) {
    this.isTTY = isTTY;
    this.columns = columns;
  }

  write(text: string): void {
    this.written += text;
  }

  /** What was written since the last call. */
  take(): string {
    const { written } = this;
    this.written = '';
    return written;
  }
}

/** A clock that the test moves, timers included. */
function clockOf(context: TestContext): {
  now: () => number;
  pass: (milliseconds: number) => void;
} {
  context.mock.timers.enable({ apis: ['setInterval'] });
  let time = 5000;
  return {
    now: () => time,
    pass: (milliseconds) => {
      for (let passed = 0; passed < milliseconds; passed += 50) {
        time += 50;
        context.mock.timers.tick(50);
      }
    },
  };
}

test('quick work shows nothing', (context) => {
  const clock = clockOf(context);
  const screen = new Screen();
  const progress = new Progress('removing', { stream: screen, now: clock.now });
  progress.update(1, 10);
  clock.pass(950);
  progress.update(2, 10);
  progress[Symbol.dispose]();
  clock.pass(5000);
  assert.equal(screen.take(), '');
});

test('slow work shows by itself, is updated, and leaves a clear line', (context) => {
  const clock = clockOf(context);
  const screen = new Screen();
  const progress = new Progress('removing', { stream: screen, now: clock.now });
  clock.pass(1000);
  assert.equal(screen.take(), '\r\x1b[Kremoving …');
  clock.pass(1000);
  assert.equal(screen.take(), '', 'nothing new, nothing written');
  progress.update(1000, 3000);
  assert.equal(screen.take(), '', 'not oftener than every 100 ms');
  clock.pass(100);
  assert.equal(screen.take(), '\r\x1b[Kremoving 1,000 of 3,000 …');
  progress.update(2000);
  clock.pass(100);
  assert.equal(screen.take(), '\r\x1b[Kremoving 2,000 …');
  progress[Symbol.dispose]();
  assert.equal(screen.take(), '\r\x1b[K');
  progress.update(3000);
  progress[Symbol.dispose]();
  clock.pass(1000);
  assert.equal(screen.take(), '', 'nothing after the end');
});

test('work that blocks the thread shows at its updates', () => {
  let time = 0;
  const screen = new Screen();
  const progress = new Progress('reading', { stream: screen, now: () => time });
  time = 1001;
  progress.update(7);
  assert.equal(screen.take(), '\r\x1b[Kreading 7 …');
  progress[Symbol.dispose]();
});

test('nothing is written unless it is a terminal', (context) => {
  const clock = clockOf(context);
  const screen = new Screen(false);
  const progress = new Progress('removing', { stream: screen, now: clock.now, delay: 0 });
  progress.update(1);
  clock.pass(5000);
  progress[Symbol.dispose]();
  assert.equal(screen.take(), '');
});

test('the line fits the terminal and holds no control characters', (context) => {
  const clock = clockOf(context);
  const screen = new Screen(true, 12);
  const progress = new Progress('a\nlong label', { stream: screen, now: clock.now, delay: 0 });
  progress.update(1);
  assert.equal(screen.take(), '\r\x1b[Ka\\x0along …');
  progress[Symbol.dispose]();
});
