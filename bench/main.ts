/**
 * `npm run bench -- [GROUP]… [--rounds N] [--json | --markdown]`; for the group `coverage` also `--all`, or paths of
 * files.
 */

import { parseArgs } from 'node:util';

import { measureCoverage } from './coverage.ts';
import { measureEverything } from './everything.ts';
import { measureFollowing } from './follow.ts';
import { measureHits } from './hit.ts';
import { measureIdle } from './idle.ts';
import { measureLatency } from './latency.ts';
import { describeMachine, isQuiet, readMachine } from './machine.ts';
import { measureLoading } from './loading.ts';
import { measureMethods } from './methods.ts';
import { measurePrograms } from './programs.ts';
import { measureReader } from './reader.ts';
import { measureWalks } from './walk.ts';
import { reaches, renderMarkdown, renderText, type Row } from './rows.ts';

const DEFAULT_ROUNDS = 7;

const groups: Readonly<Record<string, (rounds: number) => Promise<Row[]>>> = {
  hit: measureHits,
  methods: measureMethods,
  programs: measurePrograms,
  latency: measureLatency,
  reader: measureReader,
  idle: measureIdle,
  walk: measureWalks,
  follow: measureFollowing,
  loading: measureLoading,
  everything: measureEverything,
  coverage: () => measureCoverage({ files, isWhole: values.all }),
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: String(DEFAULT_ROUNDS) },
    json: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    all: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds);
const files = positionals.filter((word) => word.includes('/'));
const names = positionals.filter((word) => !word.includes('/'));
const asked = names.length === 0 || names.includes('all') ? undefined : names;
const unknown = asked?.find((name) => !(name in groups));
if (unknown !== undefined || !Number.isInteger(rounds) || rounds < 1) {
  const known = [...Object.keys(groups), 'all'].join('|');
  process.stderr.write(
    `usage: bench [${known}]... [--rounds N] [--json | --markdown]\n       bench coverage [--all | FILE...]\n`,
  );
  process.exit(2);
}
await main();

async function main(): Promise<void> {
  const machine = await readMachine();
  const quiet = isQuiet(machine);
  const began = performance.now();
  const rows: Row[] = [];
  if (!quiet) process.stderr.write('WARNING: this machine is not quiet; the figures say little\n');
  for (const [name, measure] of Object.entries(groups)) {
    if (asked !== undefined && !asked.includes(name)) continue;
    process.stderr.write(`measuring: ${name}\n`);
    rows.push(...(await measure(rounds)));
  }
  const seconds = Math.round((performance.now() - began) / 1000);
  const facts = `${describeMachine(machine)}. ${rounds} rounds, ${seconds} s.`;
  const warning = quiet ? '' : 'WARNING: the machine was not quiet.';
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ machine, quiet, rounds, rows }, undefined, 1)}\n`);
  } else if (values.markdown) {
    process.stdout.write(`${[facts, warning].join(' ').trim()}\n\n${renderMarkdown(rows)}`);
  } else {
    process.stdout.write(`${facts}\n${warning}\n${renderText(rows)}\n`);
  }
  const missed = rows.filter((row) => reaches(row) === false).length;
  if (missed > 0) process.stderr.write(`${missed} goals missed\n`);
}
