/** The options of `trapline trace`, and what they ask for together. */

import type { Command } from 'commander';

import { TraplineError } from '../base/errors.ts';
import {
  collect,
  parseCount,
  parseEngine,
  parseFormat,
  parsePids,
  parseRingSize,
  parseSize,
  parseTime,
  parseUids,
} from './options.ts';

/** The options as they were given. */
export interface TraceOptions {
  readonly pid?: readonly number[];
  readonly tid?: readonly number[];
  readonly all?: true;
  /** Task filters. */
  readonly comm?: string;
  readonly exe?: string;
  readonly cgroup?: string;
  readonly uid?: readonly number[];
  readonly tree?: readonly number[];
  readonly exclude?: readonly string[];
  /** Event filters for all probes. */
  readonly filter?: readonly string[];
  /** A file of probes. */
  readonly probes?: string;
  readonly format: 'text' | 'json';
  readonly output?: string;
  /** Events after which to stop. */
  readonly number?: number;
  /** Nanoseconds after which to stop. */
  readonly duration?: number;
  readonly engine: 'auto' | 'jump' | 'kernel';
  readonly count?: true;
  /** Absent: a command is followed, a process that runs is not. */
  readonly follow?: boolean;
  readonly ringSize?: number;
  readonly ringBudget?: number;
  readonly perfMap?: true;
  readonly quiet?: true;
  readonly verbose?: true;
}

/** What one `trapline trace` is to do. */
export interface TraceRequest {
  readonly probes: readonly string[];
  /** The command to start, with its arguments. */
  readonly command?: readonly string[];
  readonly options: TraceOptions;
}

const HELP = `
A PROBE is one word of the shell: where it goes, then what it fetches.
  zfree@zsh                                the first instruction of a function
  'malloc@libc.so.6 size=%di:u64'          with an argument, from a register
  'open64@libc.so.6 path=+0(%di):string'   with text that a register points to
  '*alloc*@libc.so.6'                      every function that matches
  zfree+8@zsh, /bin/zsh:0x4245c0           inside a function, at an offset of the file
  1234:0x55d0c4a3b2c0                      at an address in process 1234
  'p:heap/big malloc@libc.so.6 size=%di:u64 if size > 4096'
                                           named as the kernel does, and filtered

FILE of --probes has one PROBE a line; a word that begins with # begins a comment. It is read again when it changes:
lines that are gone are taken out, new ones put in, the others not touched. A mistake in it changes nothing.

Events go to standard output, or to FILE with -o FILE: use it to keep them apart from
what COMMAND writes. Messages and the summary go to standard error.

The exit status is COMMAND's (128 + N when signal N ended it); without a command 0.
1 is an error, 2 a mistake in the command line.

Examples:
  trapline trace 'malloc@libc.so.6 size=%di:u64' -- ls -l
  trapline trace -p 1234 --duration 5s --format json -o events.json zfree@zsh
  trapline trace -p 1234 --count '*alloc*@libc.so.6' --exclude '*_init'
  trapline trace --all --comm 'worker*' --tree 1234 'open64@libc.so.6 path=+0(%di):string'
  sudo trapline trace --engine kernel --all getaddrinfo@libc.so.6
  trapline trace -p 1234 --filter 'size > 4096 && comm ~ "z*"' 'malloc@libc.so.6 size=%di:u64'
  trapline trace -p 1234 --probes heap.probes
`;

/** Adds the command to the parser. */
export function addTrace(
  program: Command,
  started: readonly string[] | undefined,
  finish: (status: number) => void,
): void {
  program
    .command('trace')
    .description('Put probes into running processes, or a new one, and show their events.')
    .usage('[options] PROBE… [-- COMMAND ARG…]')
    .argument('[probe...]', 'where, and what to fetch; see below')
    .option('-p, --pid <pids>', 'attach to these processes (repeatable, or 1,2,3)', parsePids)
    .option('--tid <tids>', 'only events of these tasks (repeatable, or 1,2,3)', parsePids)
    .option('--all', 'every process of this user (root: of all) that maps the file, later ones too')
    .option('--comm <glob>', 'of these processes only those of this name')
    .option('--exe <glob>', 'only those that run this program: a name, or with a slash a path')
    .option('--uid <uids>', 'only those of these users (repeatable, or 0,1000)', parseUids)
    .option('--cgroup <glob>', 'only those in this control group: /system.slice/*')
    .option('--tree <pids>', 'only these processes and what they start (repeatable)', parsePids)
    .option('--follow', 'hold the targets: what they execute and fork has probes at once')
    .option('--no-follow', 'do not hold the COMMAND, which --follow does by default')
    .option('--exclude <glob>', 'functions that globs must not take (repeatable)', collect)
    .option('--filter <expression>', "only these hits: the kernel's filters (repeatable)", collect)
    .option('--probes <file>', 'probes of a file, one a line, followed as it changes')
    .option('--format <format>', 'text or json', parseFormat, 'text')
    .option('-o, --output <file>', 'write events there')
    .option('-n, --number <count>', 'stop after so many events', parseCount)
    .option('--duration <time>', 'stop after a time: 5s, 200ms, 1m30s', parseTime)
    .option('--count', 'only count hits; a summary at the end')
    .option('--engine <engine>', 'jump, or kernel (uprobes; root)', parseEngine, 'auto')
    .option('--ring-size <size>', "one task's ring, a power of two (default 1M)", parseRingSize)
    .option('--ring-budget <size>', 'all rings of a process (default 64M)', parseSize)
    .option('--perf-map', 'name our code in /tmp/perf-PID.map, for profilers')
    .option('-q, --quiet', 'no messages and no summary, only errors')
    .option('-v, --verbose', 'show every site, and every place that was refused')
    .addHelpText('after', HELP)
    .action(async (probes: string[], options: TraceOptions) => {
      const request = checked({ probes, options, ...(started && { command: started }) });
      const { trace } = await import('./trace.ts');
      finish(await trace(request));
    });
}

/** @throws TraplineError `usage` where options contradict one another. */
export function checked(request: TraceRequest): TraceRequest {
  const { command, options } = request;
  const named = options.pid !== undefined || options.tid !== undefined;
  const start = command !== undefined;
  if (request.probes.length === 0 && options.probes === undefined) {
    throw usage('no probe was named', 'write FUNC@FILE, or give --probes FILE');
  }
  if (options.probes === '-') {
    throw usage(
      '--probes takes a file, and not standard input',
      'it is read again when it changes: give its path (./- if it is called so)',
    );
  }
  if (start && command.length === 0) throw usage('there is no command behind --', 'write -- ls -l');
  if (!start && !named && options.all !== true && !request.probes.some(namesProcess)) {
    throw usage('which program?', 'name processes by -p PID, start one by -- COMMAND, or --all');
  }
  if (start && (named || options.all === true)) {
    throw usage(
      'a command is started or processes are attached to, not both',
      'leave out -p, --tid and --all, or what stands behind --',
    );
  }
  if (named && options.all === true) {
    throw usage('--all takes every process already', 'leave out -p and --tid, or --all');
  }
  checkTaskFilter(request);
  if (options.follow === true && options.all === true) {
    throw usage('--all finds what starts later anyway', 'leave out --follow');
  }
  if (options.follow === true && options.engine === 'kernel') {
    throw usage('the kernel follows by itself', 'leave out --follow');
  }
  if (options.count === true) {
    const without = 'there are no events with --count';
    if (options.number !== undefined) throw usage(without, 'leave out -n or --count');
    if (options.output !== undefined) throw usage(without, 'leave out -o or --count');
    if (options.quiet === true)
      throw usage('-q leaves nothing of --count', 'leave one of them out');
  }
  if (options.engine === 'kernel' && options.perfMap === true) {
    throw usage('the kernel engine writes no code to be named', 'leave out --perf-map');
  }
  if (options.quiet === true && options.verbose === true) {
    throw usage('-q and -v contradict each other', 'leave one of them out');
  }
  return request;
}

/** @throws TraplineError `usage` where there is nothing that a task filter could choose among. */
function checkTaskFilter({ command, options }: TraceRequest): void {
  const given = (['comm', 'exe', 'uid', 'cgroup', 'tree'] as const).find(
    (name) => options[name] !== undefined,
  );
  if (given === undefined) return;
  if (command !== undefined && options.follow === false) {
    throw usage(
      `--${given} chooses among several processes`,
      `leave it out: ${command[0]} is named; or leave out --no-follow`,
    );
  }
  if (options.engine === 'kernel') {
    throw usage(
      `the kernel engine has no --${given}`,
      "the kernel's filters choose at each hit: --filter 'comm ~ \"name*\"'",
    );
  }
}

/** Whether a probe names a process by itself: `1234:0x55d0c4a3b2c0`. */
function namesProcess(definition: string): boolean {
  return /^\s*(?:[pr]\S*\s+)?[0-9]+:(?:0x)?[0-9a-f]+(?:\s|$)/i.test(definition);
}

function usage(message: string, hint: string): TraplineError {
  return new TraplineError({ code: 'usage', message, hint });
}
