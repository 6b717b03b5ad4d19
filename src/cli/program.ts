/** The commands and their options, for the parser. What a command does is loaded when it is called. */

import { createRequire } from 'node:module';

import { Command } from 'commander';

import { TraplineError } from '../base/errors.ts';
import { painterFor } from '../screen/colour.ts';
import { writeAll } from './messages.ts';
import { parsePids, refuseReplacing } from './options.ts';
import { addTrace } from './trace-options.ts';

/** What `list` takes. */
interface ListOptions {
  readonly unnamed?: true;
  readonly json?: true;
}

/** What `explain` takes. */
interface ExplainOptions {
  readonly pid?: number[];
  readonly verbose?: true;
  readonly json?: true;
}

/** Takes the exit status of the command that ran. */
export type Finish = (status: number) => void;

const EXAMPLES = `
Examples:
  trapline trace 'malloc@libc.so.6 size=%di:u64' -- ls -l
  trapline trace -p 1234 zfree@zsh
  trapline list libc.so.6 '*alloc*'
  trapline explain malloc@libc.so.6
  trapline doctor
`;

/**
 * The whole parser.
 * @param started the words behind `--`, if there was one.
 */
export function buildProgram(started: readonly string[] | undefined, finish: Finish): Command {
  const program = new Command('trapline')
    .description('Dynamic probes for live Linux programs, without root and without recompiling.')
    .version(version(), '-V, --version', 'show the version')
    .helpCommand('help [command]', 'the options and examples of a command')
    .helpOption('-h, --help', 'show this')
    .configureOutput({
      writeOut: (text) => writeAll(1, text),
      writeErr: (text) => writeAll(2, text),
      outputError: (text, write) => write(rephrase(text)),
    })
    .showHelpAfterError('  trapline --help and trapline COMMAND --help show what there is')
    .exitOverride()
    .addHelpText('after', EXAMPLES);
  addTrace(program, started, finish);
  addList(program, finish);
  addExplain(program, finish);
  addDoctor(program, finish);
  addStatus(program, finish);
  addClean(program, finish);
  for (const command of program.commands) refuseReplacing(command);
  if (started !== undefined) {
    program.hook('preAction', (_, action) => {
      if (action.name() !== 'trace') throw noCommandHere(action.name());
    });
  }
  return program;
}

function addList(program: Command, finish: Finish): void {
  program
    .command('list')
    .description('Show the functions of a file that can be named in a probe.')
    .argument('<file>', 'a path, or the name of a program or a library')
    .argument('[glob]', "names to show: '*alloc*'")
    .option('--unnamed', 'also functions without a name, as FILE:0xOFFSET')
    .option('--json', 'one JSON object a line')
    .addHelpText(
      'after',
      `
Examples:
  trapline list zsh
  trapline list libc.so.6 '*alloc*'
  trapline list --json ./server 'http_*'
  trapline list --unnamed ./stripped
`,
    )
    .action(async (file: string, glob: string | undefined, options: ListOptions) => {
      const { list } = await import('./list.ts');
      const request = {
        ...(glob === undefined ? {} : { glob }),
        unnamed: options.unnamed === true,
      };
      finish(await list(file, request, options.json === true));
    });
}

function addExplain(program: Command, finish: Finish): void {
  program
    .command('explain')
    .description('Say how a place would be probed, why so, and what a hit would cost.')
    .argument('<probes...>', 'as trace takes them')
    .option(
      '-p, --pid <pid>',
      'as it is in this process; else the file alone is looked at',
      parsePids,
    )
    .option('-v, --verbose', 'also the code that would be written')
    .option('--json', 'one JSON object a place')
    .addHelpText(
      'after',
      `
The exit status is 0 if every place can be probed, 1 if not. Nothing is changed, and nobody is stopped.

Examples:
  trapline explain zfree@zsh
  trapline explain -v 'malloc@libc.so.6 size=%di:u64'
  trapline explain -p 1234 'work+12@./server'
  trapline explain --json '*alloc*@libc.so.6'
`,
    )
    .action(async (probes: string[], options: ExplainOptions) => {
      const { explainAll } = await import('./explain.ts');
      const [pid, another] = options.pid ?? [];
      if (another !== undefined) throw onlyOne(another);
      const request = { ...(pid === undefined ? {} : { pid }), stub: options.verbose === true };
      finish(await explainAll(probes, request, options.json === true));
    });
}

function onlyOne(pid: number): TraplineError {
  return new TraplineError({
    code: 'usage',
    message: `explain looks at one process, and ${pid} is another`,
    hint: 'call it once for each',
  });
}

function addDoctor(program: Command, finish: Finish): void {
  program
    .command('doctor')
    .description('Say what works on this machine for this user, what is missing, how to get it.')
    .option('--json', 'one JSON object')
    .addHelpText(
      'after',
      `
The exit status is 0 if Trapline can work here, 1 if not.

Examples:
  trapline doctor
  trapline doctor --json | jq .works
`,
    )
    .action(async (options: { json?: true }) => {
      const { examine } = await import('./doctor.ts');
      finish(await examine(options.json === true));
    });
}

function addStatus(program: Command, finish: Finish): void {
  program
    .command('status')
    .description('Show what sessions, living and dead, hold in processes.')
    .option('-p, --pid <pids>', 'these processes only (repeatable, or 1,2,3)', parsePids)
    .option('--json', 'one JSON object a process')
    .addHelpText(
      'after',
      `
Examples:
  trapline status
  trapline status -p 1234
`,
    )
    .action(async (options: { pid?: number[]; json?: true }) => {
      const { showStatus } = await import('./status.ts');
      finish(await showStatus(options.pid, options.json === true));
    });
}

function addClean(program: Command, finish: Finish): void {
  program
    .command('clean')
    .description('Take out what dead sessions left in processes. Living ones are not touched.')
    .option('-p, --pid <pids>', 'these processes only (repeatable, or 1,2,3)', parsePids)
    .option('--json', 'one JSON object a process')
    .addHelpText(
      'after',
      `
Examples:
  trapline clean
  trapline clean -p 1234
`,
    )
    .action(async (options: { pid?: number[]; json?: true }) => {
      const { cleanUp } = await import('./clean.ts');
      finish(await cleanUp(options.pid, options.json === true));
    });
}

/** `error: unknown option '--x'` in our words: `trapline: …`, and what may have been meant as a hint. */
export function rephrase(text: string): string {
  const words = text.replace(/^error: /, '').replace(/^\((Did you mean .*\?)\)$/m, '  $1');
  return `${painterFor(process.stderr).red('trapline:')} ${words}`;
}

function version(): string {
  const manifest: unknown = createRequire(import.meta.url)('trapline/package.json');
  const found = typeof manifest === 'object' && manifest !== null && 'version' in manifest;
  return found ? String(manifest.version) : 'unknown';
}

function noCommandHere(name: string): TraplineError {
  return new TraplineError({
    code: 'usage',
    message: `'trapline ${name}' starts no command, so nothing can stand behind --`,
    hint: `see trapline ${name} --help`,
  });
}
