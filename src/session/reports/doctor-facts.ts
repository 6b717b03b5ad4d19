/** What can be read of this machine and of ourselves. Judging it is doctor.ts's part. */

import {
  accessSync,
  constants,
  existsSync,
  readFileSync,
  readdirSync,
  readlinkSync,
} from 'node:fs';
import { arch, release } from 'node:os';

import { messageOf } from '../../base/errors.ts';
import { findTracefs, type TracefsAccess } from '../../engines/kernel/tracefs.ts';
import { currentClockSource } from '../../sys/clock.ts';
import { processorFlags } from '../../sys/processor.ts';
import { readDistribution, type Distribution } from '../files/debug-advice.ts';
import { DEBUG_FOLDER, debuginfodCaches } from '../files/debug-files.ts';

/** The machine, and we on it. What can't be read is undefined. */
export interface SystemFacts {
  readonly architecture: string;
  readonly kernel: string;
  /** AT_HWCAP2 of our own process. */
  readonly hwcap2: bigint | undefined;
  /** The first processor's `flags` of /proc/cpuinfo. */
  readonly processorFlags: ReadonlySet<string>;
  readonly clockSource: string | undefined;
  /** kernel.yama.ptrace_scope; undefined without Yama. */
  readonly ptraceScope: number | undefined;
  readonly memfdNoexec: number | undefined;
  readonly uid: number;
  readonly capabilities: bigint;
  /** 0 none, 1 strict, 2 filter. */
  readonly seccomp: number;
  /** Inodes of our namespaces, as in `user:[4026531837]`. */
  readonly userNamespace: string | undefined;
  readonly pidNamespace: string | undefined;
  /** Hints that we are inside a container: files and words that were seen. */
  readonly container: readonly string[];
  readonly selinuxEnforces: boolean;
  /** Why koffi can't be loaded, if so. */
  readonly foreignCalls: string | undefined;
  readonly tracefs: TracefsAccess | 'absent';
  /** Lines of `uprobe_events`. */
  readonly kernelProbes: readonly string[];
  readonly fuse: 'usable' | 'closed' | 'absent';
  readonly perfParanoid: number | undefined;
  /** Folders that hold debug files: of the distribution, and those that clients of debuginfod keep. */
  readonly debugFolders: readonly string[];
  readonly distribution: Distribution | undefined;
}

/** uapi/linux/auxvec.h. */
const AT_HWCAP2 = 26n;

/** Reads everything, as it is now. */
export async function readFacts(): Promise<SystemFacts> {
  const status = textOf('/proc/self/status') ?? '';
  const tracefs = findTracefs();
  return {
    architecture: arch(),
    kernel: release(),
    hwcap2: readHwcap2(),
    processorFlags: processorFlags(),
    clockSource: currentClockSource(),
    ptraceScope: numberOf('/proc/sys/kernel/yama/ptrace_scope'),
    memfdNoexec: numberOf('/proc/sys/vm/memfd_noexec'),
    uid: process.geteuid?.() ?? -1,
    capabilities: BigInt(`0x${field(status, 'CapEff') ?? '0'}`),
    seccomp: Number(field(status, 'Seccomp') ?? 0),
    userNamespace: linkOf('/proc/self/ns/user'),
    pidNamespace: linkOf('/proc/self/ns/pid'),
    container: containerHints(),
    selinuxEnforces: textOf('/sys/fs/selinux/enforce') === '1',
    foreignCalls: await tryForeignCalls(),
    tracefs: tracefs?.access ?? 'absent',
    kernelProbes: (tracefs && textOf(`${tracefs.folder}/uprobe_events`))?.split('\n') ?? [],
    fuse: fuseState(),
    perfParanoid: numberOf('/proc/sys/kernel/perf_event_paranoid'),
    debugFolders: [`${DEBUG_FOLDER}/.build-id`, ...debuginfodCaches()].filter(holdsSomething),
    distribution: readDistribution(),
  };
}

async function tryForeignCalls(): Promise<string | undefined> {
  try {
    const { monotonicNanoseconds } = await import('../../sys/clock.ts');
    return monotonicNanoseconds() > 0n ? undefined : 'the clock stands at 0';
  } catch (error) {
    return messageOf(error);
  }
}

function readHwcap2(): bigint | undefined {
  const auxiliary = bytesOf('/proc/self/auxv');
  for (let at = 0; at + 16 <= auxiliary.length; at += 16) {
    if (auxiliary.readBigUInt64LE(at) === AT_HWCAP2) return auxiliary.readBigUInt64LE(at + 8);
  }
  return undefined;
}

function containerHints(): string[] {
  const files = ['/.dockerenv', '/run/.containerenv'].filter((path) => existsSync(path));
  const words = /docker|kubepods|containerd|lxc|libpod/.exec(textOf('/proc/1/cgroup') ?? '');
  const named = process.env['container'];
  return [...files, ...(words?.slice(0, 1) ?? []), ...(named === undefined ? [] : [named])];
}

function fuseState(): SystemFacts['fuse'] {
  if (!existsSync('/dev/fuse')) return 'absent';
  return may('/dev/fuse', constants.R_OK | constants.W_OK) ? 'usable' : 'closed';
}

function field(status: string, name: string): string | undefined {
  return new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1];
}

function numberOf(path: string): number | undefined {
  const text = textOf(path);
  return text === undefined || text === '' ? undefined : Number(text);
}

// What isn't there, or isn't for us to read, is a fact too: undefined, or nothing.

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function bytesOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0);
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function holdsSomething(folder: string): boolean {
  try {
    return readdirSync(folder).length > 0;
  } catch {
    return false;
  }
}

function may(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
