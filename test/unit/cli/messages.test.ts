import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TraplineError } from '../../../src/base/errors.ts';
import { printable } from '../../../src/base/text.ts';
import { errorCode, notice, renderError, statusOf } from '../../../src/cli/messages.ts';
import { rephrase } from '../../../src/cli/program.ts';
import { refusal } from '../../../src/probe/refusals.ts';
import { PLAIN } from '../../../src/screen/colour.ts';

const wrong = new TraplineError({
  code: 'bad-definition',
  message: 'Invalid register name',
  hint: 'the registers are\n%ax',
  position: { text: 'f@x %zz', column: 5 },
});

test('an error has its caret and its hint; what it quotes can not drive the terminal', () => {
  assert.deepEqual(renderError(wrong, PLAIN), [
    'trapline: Invalid register name',
    '  f@x %zz',
    '       ^',
    '  the registers are',
    '  %ax',
  ]);
  const hostile = new TraplineError({ code: 'no-symbol', message: 'no \u001b[2J' });
  assert.deepEqual(renderError(hostile, PLAIN), ['trapline: no \\x1b[2J']);
  assert.equal(notice('a\rb', PLAIN), 'trapline: a\\x0db');
});

test('what the parser proposes is a hint', () => {
  assert.equal(
    rephrase("error: unknown command 'trac'\n(Did you mean trace?)\n"),
    "trapline: unknown command 'trac'\n  Did you mean trace?\n",
  );
  assert.equal(rephrase("error: unknown option '--x'\n"), "trapline: unknown option '--x'\n");
});

test('the caret stands where the terminal shows what is wrong', () => {
  for (const [text, before] of [
    ["target@'日本/t' %zz", 16],
    ['é@x %zz', 4],
    ['e\u0301@x %zz', 4],
    ['f@x\t%zz', 7],
    ['f@x\n%zz', 7],
  ] as const) {
    const error = refusal(text, text.indexOf('%'), 'badRegister');
    const [, line = '', caret = ''] = renderError(error, PLAIN);
    assert.equal(line, `  ${printable(text)}`);
    assert.equal(caret, `  ${' '.repeat(before)}^`);
  }
  assert.equal(renderError(refusal('日', 1, 'noLocation'), PLAIN)[2], '    ^');
});

test('a defect is apologised for, with its stack when asked', () => {
  const defect = new TypeError('undefined is not a function');
  const [first = '', advice = ''] = renderError(defect, PLAIN);
  assert.equal(first, 'trapline: a defect of Trapline, sorry: undefined is not a function');
  assert.match(advice, /-v/);
  const verbose = renderError(defect, PLAIN, true);
  assert.match(verbose.join('\n'), /messages\.test\.js/);
  const internal = new TraplineError({ code: 'internal', message: 'internal error: x' });
  assert.match(renderError(internal, PLAIN)[0] ?? '', /defect/);
  assert.match(renderError('text', PLAIN)[0] ?? '', /text/);
});

test('statuses: 2 for what was written wrongly, 1 for the rest', () => {
  assert.equal(statusOf(wrong), 2);
  assert.equal(statusOf(new TraplineError({ code: 'usage', message: '' })), 2);
  assert.equal(statusOf(new TraplineError({ code: 'no-process', message: '' })), 1);
  assert.equal(statusOf(new Error('x')), 1);
});

test('the name of an errno, where there is one', () => {
  assert.equal(errorCode(Object.assign(new Error('x'), { code: 'EAGAIN' })), 'EAGAIN');
  assert.equal(errorCode(new Error('x')), undefined);
  assert.equal(errorCode('EAGAIN'), undefined);
});
