/**
 * The corpora of definitions and filters, asked of the running kernel again: they are its own word. On another
 * kernel than the one that they name, what differs is shown and not held against anybody.
 */

import assert from 'node:assert/strict';
import {
  appendFileSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';

import { listDefinition, parseDefinition } from '../../src/probe/definition.ts';
import { skipUnless } from '../harness/features.ts';
import { readKernelCases, type Outcome } from '../unit/probe/kernel-corpus.ts';

const TRACEFS = '/sys/kernel/tracing';
const COMMANDS = `${TRACEFS}/uprobe_events`;
/** The kernel whose word the corpora are. */
const CORPUS_KERNEL = '6.18.';
/** The group of the corpus, and one of the same length that no other run of this test has. */
const CORPUS_GROUP = 'traplang';
const GROUP = `t${process.pid.toString(36).padStart(7, '_')}`;

function listed(): Set<string> {
  return new Set(readFileSync(COMMANDS, 'utf8').split('\n').filter(Boolean));
}

function remove(lines: Iterable<string>): void {
  for (const line of lines) appendFileSync(COMMANDS, `-:${line.slice(2).split(' ')[0] ?? ''}\n`);
}

/** What the error log says last about a command; undefined where it says nothing. */
function complaint(command: string): { message: string; column: number } | undefined {
  const lines = readFileSync(`${TRACEFS}/error_log`, 'utf8').split('\n');
  const at = lines.findLastIndex((line) => line === `  Command: ${command}`);
  if (at < 1) return undefined;
  const message = (lines[at - 1] ?? '').replace(/^.*error: /, '');
  return { message, column: (lines[at + 1] ?? '').indexOf('^') - '  Command: '.length };
}

/** What the kernel makes of a definition, in the corpus's group. */
function askKernel(text: string): Outcome {
  const command = text.replaceAll(CORPUS_GROUP, GROUP);
  const before = listed();
  try {
    appendFileSync(COMMANDS, `${command}\n`);
  } catch {
    const said = complaint(command.split(/\s+/).join(' '));
    return { message: said?.message ?? '', column: said?.column };
  }
  const added = [...listed()].filter((line) => !before.has(line));
  remove(added);
  return { listing: (added[0] ?? '').replaceAll(GROUP, CORPUS_GROUP) };
}

/** Fails on the corpora's own kernel, tells on others. */
function settle(context: TestContext, differences: readonly string[]): void {
  if (release().startsWith(CORPUS_KERNEL)) assert.deepEqual(differences, []);
  for (const difference of differences) context.diagnostic(difference);
}

test('the kernel says of every definition what the corpus says', (context) => {
  if (skipUnless(context, 'root', 'tracefs')) return;
  const differences: string[] = [];
  for (const { text, kernel } of readKernelCases()) {
    const asked = askKernel(text);
    // The log cuts commands that are too long.
    const isCut = text.length > 120 && 'message' in asked && 'message' in kernel;
    if (isCut || JSON.stringify(asked) === JSON.stringify(kernel)) continue;
    differences.push(`${text}: ${JSON.stringify(asked)}, not ${JSON.stringify(kernel)}`);
  }
  settle(context, differences);
});

test('the characters of a path mean for us what they mean for the kernel', (context) => {
  if (skipUnless(context, 'root', 'tracefs')) return;
  const folder = mkdtempSync(join(tmpdir(), 'trapline-paths-'));
  const differences: string[] = [];
  try {
    for (const name of [
      "a'b",
      'a"b',
      'a\\b',
      "'a'",
      'a@b',
      'a%b',
      'a(b)',
      'a:b',
      'a*[b]?',
      '日本',
      'é',
    ]) {
      copyFileSync('/bin/sh', join(folder, name));
      const text = `p:${CORPUS_GROUP}/e ${join(folder, name)}:0x1000`;
      const asked = askKernel(text);
      const ours: Outcome = { listing: listDefinition(parseDefinition(text)) };
      if (JSON.stringify(asked) !== JSON.stringify(ours)) {
        differences.push(`${text}: ${JSON.stringify(asked)}, not ${JSON.stringify(ours)}`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  settle(context, differences);
});

test('the kernel says of every filter what the corpus says', (context) => {
  if (skipUnless(context, 'root', 'tracefs')) return;
  const file = new URL('../../../test/corpus/filters.txt', import.meta.url);
  const [head = '', ...blocks] = readFileSync(file, 'utf8').split('\n\n');
  const definition = `p:${GROUP}/filtered /bin/sh:0x1000 ${/arguments (.*)/.exec(head)?.[1] ?? ''}`;
  const before = listed();
  appendFileSync(COMMANDS, `${definition}\n`);
  const differences: string[] = [];
  try {
    for (const block of blocks) {
      const [text = '', outcome = ''] = block.split('\n');
      const asked = askFilter(text);
      if (asked !== outcome) differences.push(`${text}: ${asked}, not ${outcome}`);
    }
  } finally {
    remove([...listed()].filter((line) => !before.has(line)));
  }
  settle(context, differences);
});

/** `=`, or `! COLUMN MESSAGE`. */
function askFilter(text: string): string {
  const file = `${TRACEFS}/events/${GROUP}/filtered/filter`;
  try {
    writeFileSync(file, text);
    writeFileSync(file, '0');
    return '=';
  } catch {
    const said = complaint(text);
    return said === undefined ? '!' : `! ${said.column} ${said.message}`;
  }
}
