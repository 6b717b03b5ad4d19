/**
 * What this machine has, asked once and by trying. A test that lacks something skips through
 * {@link skipUnless}, whose reason has a fixed form, so that the skip census of `scripts/test.mjs`
 * can ask again and fail a skip whose feature is there.
 */

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, readlinkSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Whether a feature is there, and what was seen. */
export interface Feature {
  readonly present: boolean;
  /** One line: where it was found, or what is missing. */
  readonly detail: string;
}

/** The part of `node:test`'s context that {@link skipUnless} needs. */
export interface Skippable {
  skip(message?: string): void;
}

/** Programs that are asked for by name; a check beyond being in PATH is listed in `checks`. */
const programs = [
  'gcc',
  'g++',
  'clang',
  'go',
  'rustc',
  'zsh',
  'python3',
  'sqlite3',
  'gdb',
  'openssl',
  'redis-server',
  'objdump',
  'readelf',
  'nm',
  'objcopy',
  'addr2line',
  'strip',
  'xz',
  'dwz',
  'eu-readelf',
  'perf',
  'musl-gcc',
] as const;

/** Every name that {@link feature} knows. */
export type FeatureName =
  | (typeof programs)[number]
  | 'root'
  | 'rust'
  | 'libsqlite3-dev'
  | 'python3-testsuite'
  | 'libpython3'
  | 'tracefs'
  | 'unprivileged-ptrace'
  | 'fsgsbase'
  | 'rdpid'
  | 'two-processors'
  | 'user-namespaces'
  | 'overlayfs'
  | 'process-connector'
  | 'set-user-ID';

const checks: Readonly<Record<Exclude<FeatureName, (typeof programs)[number]>, () => Feature>> = {
  root: () => ({ present: process.getuid?.() === 0, detail: `uid ${process.getuid?.()}` }),
  rust: () => runs('rustc', ['--version']),
  'libsqlite3-dev': () => file('/usr/include/sqlite3.h', constants.R_OK),
  // The system's own python: others may come without symbols.
  'python3-testsuite': () => runs('/usr/bin/python3', ['-c', 'import test.test_list']),
  libpython3: () => {
    const library = findLibpython();
    return { present: library !== undefined, detail: library ?? 'no libpython3.*.so.1.0' };
  },
  tracefs: () => file('/sys/kernel/tracing/uprobe_events', constants.W_OK),
  'unprivileged-ptrace': ptraceOfSiblings,
  fsgsbase,
  rdpid: () => processorFlag('rdpid'),
  'two-processors': () => {
    const count = readFileSync('/proc/cpuinfo', 'utf8').match(/^processor\s/gm)?.length ?? 0;
    return { present: count >= 2, detail: `${count} processors` };
  },
  'user-namespaces': () => runs('unshare', ['-Urpf', '--mount-proc', 'true']),
  // In a mount namespace of its own, on a file system that can carry it.
  overlayfs: () =>
    runs('unshare', [
      '-m',
      'sh',
      '-c',
      'mount -t tmpfs none /mnt && cd /mnt && mkdir l u w m && ' +
        'mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m',
    ]),
  'process-connector': processConnector,
  'set-user-ID': setUserId,
};

const known = new Map<string, Feature>();

/**
 * Whether this machine, for this user, has a feature. The answer is kept.
 * @throws RangeError for a name that is not known, so that a misspelt skip fails.
 */
export function feature(name: FeatureName): Feature {
  const kept = known.get(name);
  if (kept !== undefined) return kept;
  const answer = ask(name);
  known.set(name, answer);
  return answer;
}

/**
 * Skips the test unless all features are there.
 * @returns true when the test was skipped: the caller returns at once.
 */
export function skipUnless(context: Skippable, ...names: readonly FeatureName[]): boolean {
  for (const name of names) {
    const { present, detail } = feature(name);
    if (present) continue;
    context.skip(`missing feature: ${name} (${detail})`);
    return true;
  }
  return false;
}

/** Whether `npm test -- --long` asked for the exhaustive forms. */
export function isLong(): boolean {
  return process.env['TRAPLINE_TEST_LONG'] === '1';
}

/** The path of a program in PATH, or undefined. */
export function findProgram(name: string): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, name);
    if (folder !== '' && file(path, constants.X_OK).present) return path;
  }
  return undefined;
}

/** The name of the library that has the system's python, if it is installed. */
export function findLibpython(): string | undefined {
  const { stdout } = spawnSync('/usr/bin/python3', ['-V'], { encoding: 'utf8' });
  const name = `libpython${/^Python (3\.\d+)/.exec(stdout ?? '')?.[1] ?? '3'}.so.1.0`;
  return existsSync(`/usr/lib/x86_64-linux-gnu/${name}`) ? name : undefined;
}

function ask(name: FeatureName): Feature {
  if (isCheck(name)) return checks[name]();
  if (!programs.some((program) => program === name)) throw new RangeError(`no feature ${name}`);
  if (name === 'go') return runs('go', ['version']);
  const path = findProgram(name);
  return path === undefined
    ? { present: false, detail: `no ${name} in PATH` }
    : { present: true, detail: path };
}

function isCheck(name: string): name is keyof typeof checks {
  return Object.hasOwn(checks, name);
}

function runs(program: string, args: readonly string[]): Feature {
  const result = spawnSync(program, args, { encoding: 'utf8' });
  return result.status === 0
    ? { present: true, detail: result.stdout.trim() }
    : { present: false, detail: `${program} does not run` };
}

function file(path: string, mode: number): Feature {
  try {
    accessSync(path, mode);
    return { present: true, detail: path };
  } catch {
    return { present: false, detail: `${path} is not there for us` };
  }
}

/** Yama (Documentation/admin-guide/LSM/Yama.rst): 0 allows it, 1 and 2 only with CAP_SYS_PTRACE. */
function ptraceOfSiblings(): Feature {
  const path = '/proc/sys/kernel/yama/ptrace_scope';
  const scope = existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0;
  const present = scope === 0 || (scope < 3 && process.getuid?.() === 0);
  return { present, detail: `ptrace_scope is ${scope}` };
}

/** AT_HWCAP2 is 26 (uapi/linux/auxvec.h); bit 1 is HWCAP2_FSGSBASE (asm/hwcap2.h). */
function fsgsbase(): Feature {
  const auxv = readFileSync('/proc/self/auxv');
  for (let at = 0; at + 16 <= auxv.length; at += 16) {
    if (auxv.readBigUInt64LE(at) !== 26n) continue;
    const bits = auxv.readBigUInt64LE(at + 8);
    return { present: (bits & 2n) !== 0n, detail: `AT_HWCAP2 is 0x${bits.toString(16)}` };
  }
  return { present: false, detail: 'no AT_HWCAP2' };
}

/**
 * What the kernel asks for, by other ways than the one that is tested. It lists its connectors in the first network
 * namespace alone (drivers/connector/connector.c, cn_init); the inodes of the first namespaces are fixed
 * (include/linux/proc_ns.h); CAP_NET_ADMIN is 12. Linux 6.6 and later tell without it, too: that is not asked here.
 */
function processConnector(): Feature {
  const list = '/proc/net/connector';
  if (!existsSync(list) || !/^cn_proc\s/m.test(readFileSync(list, 'utf8'))) {
    return { present: false, detail: `${list} has no cn_proc` };
  }
  const spaces = ['pid', 'user'].map((name) => readlinkSync(`/proc/self/ns/${name}`));
  if (spaces.join(' ') !== 'pid:[4026531836] user:[4026531837]') {
    return { present: false, detail: `in the namespaces ${spaces.join(' ')}` };
  }
  const bits = /^CapEff:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return { present: ((BigInt(`0x${bits}`) >> 12n) & 1n) === 1n, detail: `capabilities ${bits}` };
}

/** Not in a mount without set-user-ID programs, nor behind PR_SET_NO_NEW_PRIVS: `passwd` may read what only root may. */
function setUserId(): Feature {
  const { status, stdout } = spawnSync('/usr/bin/passwd', ['-S'], { encoding: 'utf8' });
  const present = status === 0 && /^\S+ \S+ \d{4}-/.test(stdout);
  return { present, detail: (stdout ?? '').trim() };
}

function processorFlag(flag: string): Feature {
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '';
  return { present: flags.split(/\s+/).includes(flag), detail: `processor flag ${flag}` };
}
