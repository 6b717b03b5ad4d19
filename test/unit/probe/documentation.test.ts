/** What docs/probes.md shows is what the parser does. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { listDefinition, parseDefinition } from '../../../src/probe/definition.ts';
import { generateEventName } from '../../../src/probe/names.ts';
import { refusalOf } from './support.ts';

const page = readFileSync(new URL('../../../../docs/probes.md', import.meta.url), 'utf8');

/** The text from a heading to the next one. */
function section(heading: string): string {
  const start = page.indexOf(`\n${heading}\n`);
  assert.ok(start >= 0, heading);
  const end = page.slice(start + 2 + heading.length).search(/^#/m);
  return page.slice(start, end < 0 ? undefined : start + 2 + heading.length + end);
}

/** The cells of a section's tables, without their headings. */
function rowsOf(heading: string): string[][] {
  return section(heading)
    .split('\n')
    .filter((line) => /^\| .*\|$/.test(line) && !/^\|(?: -+ \|)+$/.test(line))
    .slice(1)
    .map((line) => line.slice(2, -2).split(' | '));
}

/** What stands between backquotes. */
function codeIn(text: string): string[] {
  return Array.from(text.matchAll(/`([^`]+)`/g), ([, code]) => code ?? '');
}

test('the examples at the top', () => {
  const examples = page.slice(0, page.indexOf('\n## ')).match(/^ {4}\S.*$/gm) ?? [];
  assert.equal(examples.length, 7);
  for (const line of examples) {
    // One word of the shell: quotes around the whole of it are the shell's.
    parseDefinition(line.trim().replace(/^'(.*)'$/, '$1'));
  }
});

test('the table of quotes', () => {
  const rows = rowsOf('### Quotes');
  assert.ok(rows.length >= 10);
  for (const [what = '', write = ''] of rows) {
    const codes = codeIn(write);
    assert.ok(codes.length > 0, what);
    for (const code of codes) parseDefinition(code);
  }
});

test('the table of names', () => {
  const rows = rowsOf('## Names of events');
  assert.ok(rows.length >= 5);
  for (const row of rows) {
    const [definition = '', event = '', group = ''] = row.map((cell) => codeIn(cell)[0] ?? '');
    assert.deepEqual(generateEventName(parseDefinition(definition).location), { group, event });
  }
});

test('the table of listings', () => {
  const rows = rowsOf('## How a probe is listed');
  assert.ok(rows.length >= 5);
  for (const row of rows) {
    const [definition = '', listing] = row.map((cell) => codeIn(cell)[0] ?? '');
    assert.equal(listDefinition(parseDefinition(definition)), listing);
  }
});

test('the refusal that is shown', () => {
  const shown = section('## Refusals').match(/^ {4}.*$/gm) ?? [];
  const lines = refusalOf('malloc@libc.so.6 size=%zz').render().split('\n');
  assert.deepEqual(
    shown.slice(0, 3).map((line) => line.slice(4)),
    lines.slice(0, 3),
  );
});

test('every register, variable and type that is listed', () => {
  const [fetches, types] = [/^\| fetch[^]*?\n\n/m, /^\| type[^]*?\n\n/m].map(
    (table) => table.exec(section('## What: the arguments'))?.[0].split('\n').slice(2) ?? [],
  );
  for (const line of fetches ?? []) {
    for (const code of codeIn(line.split(' | ')[0] ?? '')) {
      parseDefinition(`f@x ${code.replace('FETCH', '%di')}`);
    }
  }
  for (const line of types ?? []) {
    for (const code of codeIn(line.split(' | ')[0] ?? '')) parseDefinition(`f@x +0(%di):${code}`);
  }
  assert.ok((fetches?.length ?? 0) >= 6 && (types?.length ?? 0) >= 5);
});
