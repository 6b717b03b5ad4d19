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

const USAGE = `usage: bench [${[...Object.keys(groups), 'all'].join('|')}]... [--rounds N] [--json | --markdown]
       bench coverage [--all | FILE...]
`;

const { values, positionals } = readWords();
if (values.help) {
  process.stdout.write(USAGE);
  process.exit(0);
}
const rounds = Number(values.rounds);
const files = positionals.filter((word) => word.includes('/'));
const names = positionals.filter((word) => !word.includes('/'));
const asked = names.length === 0 || names.includes('all') ? undefined : names;
const unknown = asked?.find((name) => !(name in groups));
if (unknown !== undefined) refuse(`there is no group '${unknown}'`);
if (!Number.isInteger(rounds) || rounds < 1) refuse(`--rounds is no number: '${values.rounds}'`);
await main();

function readWords(): ReturnType<typeof parse> {
  try {
    return parse();
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
}

function parse() {
  return parseArgs({
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h', default: false },
      rounds: { type: 'string', default: String(DEFAULT_ROUNDS) },
      json: { type: 'boolean', default: false },
      markdown: { type: 'boolean', default: false },
      all: { type: 'boolean', default: false },
    },
  });
}

function refuse(why: string): never {
  process.stderr.write(`bench: ${why}\n${USAGE}`);
  process.exit(2);
}

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
