import assert from 'node:assert/strict';
import { test } from 'node:test';
import { painterFor, PLAIN } from '../../../src/screen/colour.ts';

test('colours on a terminal only, and not against NO_COLOR or a dumb one', () => {
  const red = '\x1b[31mx\x1b[39m';
  const table = [
    { isTTY: true, environment: {}, text: red },
    { isTTY: true, environment: { NO_COLOR: '' }, text: red },
    { isTTY: true, environment: { NO_COLOR: '1' }, text: 'x' },
    { isTTY: true, environment: { NO_COLOR: '0' }, text: 'x' },
    { isTTY: true, environment: { TERM: 'dumb' }, text: 'x' },
    { isTTY: true, environment: { TERM: 'xterm' }, text: red },
    { isTTY: false, environment: { FORCE_COLOR: '1' }, text: 'x' },
  ];
  for (const { isTTY, environment, text } of table) {
    assert.equal(painterFor({ isTTY }, environment).red('x'), text);
  }
  assert.equal(painterFor({}, {}), PLAIN);
});

test('every style ends what it began, and is plain text without colours', () => {
  const painter = painterFor({ isTTY: true }, {});
  for (const style of ['bold', 'dim', 'red', 'green', 'yellow', 'cyan'] as const) {
    // oxlint-disable-next-line no-control-regex -- escape sequences are what is looked for
    assert.match(painter[style]('x'), /^\x1b\[\d+mx\x1b\[\d+m$/);
    assert.equal(PLAIN[style]('x'), 'x');
  }
});
