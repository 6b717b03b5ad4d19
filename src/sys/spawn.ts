/**
 * Starts commands that can be traced from their first instruction. Not by child_process: libuv waits for
 * its children itself, and takes their ptrace stops for their end.
 */

import { accessSync, constants as fsConstants, statSync, type Stats } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { delimiter, resolve } from 'node:path';

import { pid as brandPid, type Pid } from '../base/brand.ts';
import { DisposableStack } from '../base/dispose.ts';
import { TraplineError } from '../base/errors.ts';
import { addCommand } from './commands.ts';
import { addressOf, bind, systemError, type Pointer } from './call.ts';
import { close, inherit, makePipe } from './descriptor.ts';

const SETPGROUP = 2;
const SETSIGDEF = 4;
const SETSIGMASK = 8;
/** At least as large as glibc's and musl's posix_spawnattr_t (336) and file actions (80). */
const OPAQUE_BYTES = 512;

const spawn: (
  pid: Uint8Array,
  path: string,
  actions: Uint8Array,
  attributes: Uint8Array,
  argv: Uint8Array,
  envp: Uint8Array,
) => number = bind(
  'int posix_spawn(void *pid, const char *path, void *actions, void *attributes, void *argv, void *envp)',
);
const actionsInit: (actions: Uint8Array) => number = bind(
  'int posix_spawn_file_actions_init(void *actions)',
);
const actionsDestroy: (actions: Uint8Array) => number = bind(
  'int posix_spawn_file_actions_destroy(void *actions)',
);
const actionsDup2: (actions: Uint8Array, from: number, to: number) => number = bind(
  'int posix_spawn_file_actions_adddup2(void *actions, int from, int to)',
);
const actionsChdir: (actions: Uint8Array, path: string) => number = bind(
  'int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)',
);
const attributesInit: (attributes: Uint8Array) => number = bind(
  'int posix_spawnattr_init(void *attributes)',
);
const attributesDestroy: (attributes: Uint8Array) => number = bind(
  'int posix_spawnattr_destroy(void *attributes)',
);
const attributesFlags: (attributes: Uint8Array, flags: number) => number = bind(
  'int posix_spawnattr_setflags(void *attributes, short flags)',
);
const attributesDefault: (attributes: Uint8Array, signals: Pointer) => number = bind(
  'int posix_spawnattr_setsigdefault(void *attributes, void *signals)',
);
const attributesMask: (attributes: Uint8Array, signals: Pointer) => number = bind(
  'int posix_spawnattr_setsigmask(void *attributes, void *signals)',
);

/** The shell's descriptor of the pipe that holds it. */
const GATE = 3;

/** How a command is started. */
export interface SpawnOptions {
  /** The whole environment; ours when absent. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly directory?: string;
  /** Our descriptors for its stdin, stdout and stderr; inherited where absent. */
  readonly stdio?: readonly (number | undefined)[];
  /** A process group of its own, so that the terminal's Ctrl-C doesn't reach it. */
  readonly ownGroup?: boolean;
}

/** A command that was started and has not begun. */
export interface HeldCommand {
  readonly pid: Pid;
  /** Lets it begin. Our death does the same. */
  readonly release: () => void;
}

/**
 * Starts a command, held before its first instruction: a shell waits for the end of a pipe, and then
 * executes it under the same process id. A shell that stopped itself would stay so if we died. It is a
 * child of the calling thread, which has to wait for it (`waitFor`).
 * @throws TraplineError `no-file` when there is no such command; nothing was started then.
 */
export function spawnHeld(command: readonly string[], options: SpawnOptions = {}): HeldCommand {
  const environment = options.environment ?? process.env;
  const [name = '', ...words] = command;
  const program = findCommand(name, environment['PATH'], options.directory);
  const script = `read -r trapline_gate <&${GATE}; exec "$0" "$@" ${GATE}<&-`;
  const { reading: readEnd, writing: writeEnd } = makePipe();
  let isHeld = true;
  const release = (): void => {
    if (isHeld) close(writeEnd);
    isHeld = false;
  };
  try {
    // The shell searches as we did, and hands on as argv[0] what was typed. Without a PATH it has one of
    // its own; and a name that begins with a dash would be an option to it.
    const isFoundByShell = environment['PATH'] !== undefined || name.includes('/');
    const typed = isFoundByShell && !name.startsWith('-') ? name : program;
    const argv = ['/bin/sh', '-c', script, typed, ...words];
    const pid = start(argv, environment, options, readEnd);
    addCommand(pid);
    return { pid, release };
  } catch (error) {
    release();
    throw error;
  } finally {
    close(readEnd);
  }
}

/**
 * Where a command's file is, by the rules of execvp(3).
 * @throws TraplineError `no-file` or `not-permitted`.
 */
export function findCommand(
  name: string,
  path?: string,
  directory: string = process.cwd(),
): string {
  const searched = name.includes('/')
    ? [name]
    : (path ?? '/usr/bin:/bin').split(delimiter).map((folder) => `${folder || '.'}/${name}`);
  const present = searched.map((file) => resolve(directory, file)).filter(isFile);
  const usable = present.find(isExecutable);
  if (usable !== undefined && name !== '') return usable;
  if (name.includes('/') && isFolder(resolve(directory, name))) {
    throw new TraplineError({
      code: 'no-file',
      message: `'${name}' is a folder, and no command`,
      errno: 'EISDIR',
      hint: 'give the path of a program in it',
    });
  }
  const denied = present.length > 0;
  throw new TraplineError({
    code: denied ? 'not-permitted' : 'no-file',
    message: denied ? `${present[0]} may not be executed` : `there is no command '${name}'`,
    errno: denied ? 'EACCES' : 'ENOENT',
    hint: name.includes('/') ? 'check the path' : 'it was searched for in PATH; give its path',
  });
}

function isFile(path: string): boolean {
  return look(path)?.isFile() === true;
}

function isFolder(path: string): boolean {
  return look(path)?.isDirectory() === true;
}

function look(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined; // not there, or in a folder that is not ours to look into: execvp goes on as well
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, fsConstants.X_OK);
    return true;
  } catch {
    return false; // the answer, not a failure
  }
}

function start(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  options: SpawnOptions,
  gate: number,
): Pid {
  const actions = Buffer.alloc(OPAQUE_BYTES);
  const attributes = Buffer.alloc(OPAQUE_BYTES);
  using stack = new DisposableStack();
  const inherited = (options.stdio ?? []).map((from) =>
    from === undefined ? undefined : stack.use(inherit(from)).descriptor,
  );
  must(actionsInit(actions));
  must(attributesInit(attributes));
  try {
    if (options.directory !== undefined) must(actionsChdir(actions, options.directory));
    inherited.forEach((from, to) => {
      if (from !== undefined) must(actionsDup2(actions, from, to));
    });
    must(actionsDup2(actions, gate, GATE));
    // Node ignores SIGPIPE, and what is ignored or blocked would be inherited through exec.
    must(attributesDefault(attributes, Buffer.alloc(128, 0xff)));
    must(attributesMask(attributes, Buffer.alloc(128)));
    const group = options.ownGroup === true ? SETPGROUP : 0;
    must(attributesFlags(attributes, SETSIGDEF | SETSIGMASK | group));
    const variables = Object.entries(environment).flatMap(([name, value]) =>
      value === undefined ? [] : [`${name}=${value}`],
    );
    const child = Buffer.alloc(4);
    const [argvTable, argvText] = stringTable(argv);
    const [envpTable, envpText] = stringTable(variables);
    must(spawn(child, argv[0] ?? '', actions, attributes, argvTable, envpTable));
    // The tables point into these, which must live until here.
    void [argvText, envpText];
    return brandPid(child.readInt32LE());
  } finally {
    actionsDestroy(actions);
    attributesDestroy(attributes);
  }
}

/** `char *table[]`, ended by a null pointer, and the bytes that it points into. */
function stringTable(strings: readonly string[]): [table: Buffer, text: Buffer] {
  const text = Buffer.from(strings.map((string) => `${string}\0`).join(''));
  const table = Buffer.alloc(8 * (strings.length + 1));
  let at = text.byteLength === 0 ? 0n : addressOf(text);
  strings.forEach((string, index) => {
    table.writeBigUInt64LE(at, 8 * index);
    at += BigInt(Buffer.byteLength(string) + 1);
  });
  return [table, text];
}

/** The posix_spawn family returns the error instead of setting errno. */
function must(errno: number): void {
  if (errno === 0) return;
  const known = Object.values(osConstants.errno).includes(errno);
  throw systemError('start the command', known ? errno : osConstants.errno.EINVAL);
}
