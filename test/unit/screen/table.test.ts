import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { renderTable } from '../../../src/screen/table.ts';
import { cut, printable, widthOf } from '../../../src/base/text.ts';

test('columns are aligned, numbers to the right', () => {
  assert.deepEqual(
    renderTable(
      [{ heading: 'probe' }, { heading: 'hits' }, { heading: 'why' }],
      [
        ['zfree@zsh', 1234567, 'ring full'],
        ['f@é', 3n],
        ['g', undefined, ''],
      ],
    ),
    ['probe           hits  why', 'zfree@zsh  1,234,567  ring full', 'f@é                3', 'g'],
  );
});

test('an asked alignment wins, a mixed column is text, empty headings are left out', () => {
  const table = renderTable(
    [{ heading: '', align: 'right' }, { heading: '' }, { heading: '', align: 'left' }],
    [
      ['a', 1, 1],
      ['bbb', '-', 22],
    ],
    { indent: '> ' },
  );
  assert.deepEqual(table, ['>   a  1  1', '> bbb  -  22']);
});

test('a table without rows is its headings; without columns nothing', () => {
  assert.deepEqual(renderTable([{ heading: 'a' }, { heading: 'b' }], []), ['a  b']);
  assert.deepEqual(renderTable([], []), []);
});

test('paint goes around the text, not the space, and does not count as width', () => {
  assert.deepEqual(
    renderTable(
      [{ heading: 'n', paint: (text) => `<${text}>` }, { heading: 'b' }],
      [
        ['aa', 'x'],
        ['', 'y'],
      ],
      {
        paintHeading: (text) => `{${text}}`,
      },
    ),
    ['{n}   {b}', '<aa>  x', '    y'],
  );
});

test('names can not move the cursor', () => {
  assert.equal(printable('a\x1b[2Jb\nc\x7f\x9b'), 'a\\x1b[2Jb\\x0ac\\x7f\\x9b');
  assert.deepEqual(renderTable([{ heading: '' }], [['a\nb']]), ['a\\x0ab']);
});

test('widths are those of the widest cell', () => {
  const cells = fc.oneof(fc.string({ unit: 'binary' }), fc.integer(), fc.constant(undefined));
  fc.assert(
    fc.property(fc.array(fc.tuple(cells, cells)), (rows) => {
      const lines = renderTable([{ heading: 'h' }, { heading: '' }], [...rows, ['x', '|']]);
      assert.equal(lines.length, rows.length + 2);
      const width = Math.max(...lines.map((line) => widthOf(line)));
      assert.ok(lines.every((line) => line === line.trimEnd() && !/\p{Cc}/u.test(line)));
      const first = Math.max(
        1,
        ...rows.map(([cell]) =>
          typeof cell === 'string'
            ? widthOf(printable(cell))
            : widthOf(cell?.toLocaleString('en-US') ?? ''),
        ),
      );
      assert.ok(width >= first + 3 || rows.length === 0);
    }),
  );
});

test('cells of a terminal are counted, and cut between', () => {
  for (const [text, cells] of [
    ['', 0],
    ['aé', 2],
    ['a\u{1f600}é', 4],
    ['e\u0301', 1],
    ['日本', 4],
    ['한글', 4],
    ['ｗ', 2],
    ['\u{20000}', 2],
    ['a\u200d\ufe0f', 1],
    ['a\u00adb', 3],
    ['ϕЖ←…', 4],
  ] as const) {
    assert.equal(widthOf(text), cells, text);
  }
  assert.equal(cut('a\u{1f600}é', 4), 'a\u{1f600}é');
  assert.equal(cut('a\u{1f600}éb', 4), 'a\u{1f600}…');
  assert.equal(cut('a\u{1f600}éb', 3), 'a…');
  assert.equal(cut('ab', 1), '…');
  assert.equal(cut('ab', 0), '');
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.nat({ max: 20 }), (text, width) => {
      const cells = widthOf(cut(text, width));
      // A wide character that is cut off leaves a cell free.
      assert.ok(cells <= width && cells >= Math.min(width, widthOf(text)) - 1);
    }),
  );
});
