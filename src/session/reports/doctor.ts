/** What works on this machine, for whom, what is missing, and how to get it. */

import { chooseEventClock } from '../../sys/clock.ts';
import { waysToDebugFiles } from '../files/debug-advice.ts';
import { unreachable } from '../../base/errors.ts';
import { readFacts, type SystemFacts } from './doctor-facts.ts';

/** One thing that was looked at. */
export interface Finding {
  /** A few words: `ptrace scope`. */
  readonly topic: string;
  /**
   * `good`; `limited`: works in part; `missing`: Trapline can not work without it; `note`: worth to be
   * known, and nothing that this version needs.
   */
  readonly state: 'good' | 'limited' | 'missing' | 'note';
  /** What was found. */
  readonly found: string;
  /** What it means, and what to do; a line each. */
  readonly advice?: readonly string[];
}

/** All findings. */
export interface DoctorReport {
  /** Whether the jump engine can work here at all. */
  readonly works: boolean;
  readonly findings: readonly Finding[];
  /** What to keep away from while probes are in. */
  readonly warnings: readonly string[];
}

/** Examines this machine for this user. Changes nothing, and attaches to nothing. */
export async function doctor(): Promise<DoctorReport> {
  return judge(await readFacts());
}

/** Judges facts. */
export function judge(facts: SystemFacts): DoctorReport {
  const findings = JUDGES.map((one) => one(facts));
  return {
    works: findings.every(({ state }) => state !== 'missing'),
    findings,
    warnings: [
      'while a probe is in, set no kernel uprobe (perf probe, bpftrace uprobe:) and no breakpoint of ' +
        'a debugger on its bytes: the target would jump into the middle of ours',
      'the other way round is safe: a place that is changed already is refused',
    ],
  };
}

const JUDGES: readonly ((facts: SystemFacts) => Finding)[] = [
  judgeMachine,
  judgeFsgsbase,
  judgeProcessorNumber,
  judgeClock,
  judgeForeignCalls,
  judgeUser,
  judgePtrace,
  judgeNamespaces,
  judgeSeccomp,
  judgeMemoryFiles,
  judgeTracefs,
  judgeKernelProbes,
  judgePerf,
  judgeFuse,
  judgeDebugFiles,
];

/** Bits of the capability sets (include/uapi/linux/capability.h). */
const CAP_SYS_PTRACE = 19n;
/** The first namespaces have fixed numbers (include/linux/proc_ns.h). */
const FIRST_USER_NAMESPACE = 'user:[4026531837]';
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';
/** HWCAP2_FSGSBASE (arch/x86/include/uapi/asm/hwcap2.h). */
const HWCAP2_FSGSBASE = 2n;

function mayTraceAll(facts: SystemFacts): boolean {
  return ((facts.capabilities >> CAP_SYS_PTRACE) & 1n) === 1n;
}

function judgeMachine({ architecture, kernel }: SystemFacts): Finding {
  const good = architecture === 'x64';
  return {
    topic: 'machine',
    state: good ? 'good' : 'missing',
    found: `Linux ${kernel}, ${architecture}`,
    ...(good ? {} : { advice: ['Trapline writes machine code for x86-64 only'] }),
  };
}

function judgeFsgsbase({ hwcap2 }: SystemFacts): Finding {
  const topic = 'fsgsbase';
  if (hwcap2 !== undefined && (hwcap2 & HWCAP2_FSGSBASE) !== 0n) {
    return { topic, state: 'good', found: 'programs may read their fs base' };
  }
  return {
    topic,
    state: 'missing',
    found: 'programs may not read their fs base',
    advice: [
      'it takes Linux 5.9 and a processor of 2012 or later; a virtual machine must pass the',
      'flag fsgsbase on, and the kernel must not be started with nofsgsbase',
    ],
  };
}

function judgeProcessorNumber({ processorFlags }: SystemFacts): Finding {
  const fast = processorFlags.has('rdpid');
  return {
    topic: 'rdpid',
    state: 'good',
    found: fast ? 'the processor number costs one instruction' : 'not there: another way is taken',
  };
}

function judgeClock({ clockSource, processorFlags }: SystemFacts): Finding {
  const topic = 'clock';
  const steady = processorFlags.has('constant_tsc') && processorFlags.has('nonstop_tsc');
  const found = `clock source ${clockSource ?? 'unknown'}, ${steady ? 'a steady' : 'no steady'} counter`;
  if (chooseEventClock(clockSource, processorFlags) === 'counter') {
    return { topic, state: 'good', found };
  }
  return {
    topic,
    state: 'limited',
    found,
    advice: [
      'events are stamped by a system call instead, some 100 ns a hit; dmesg says why (tsc)',
    ],
  };
}

function judgeForeignCalls({ foreignCalls }: SystemFacts): Finding {
  const topic = 'calls to libc';
  if (foreignCalls === undefined) return { topic, state: 'good', found: 'koffi is loaded' };
  return {
    topic,
    state: 'missing',
    found: `koffi can't be loaded: ${foreignCalls}`,
    advice: ['install again with npm ci, on this machine, with its optional packages'],
  };
}

function judgeUser(facts: SystemFacts): Finding {
  const all = mayTraceAll(facts);
  const who = facts.uid === 0 ? 'root' : `user ${facts.uid}`;
  return {
    topic: 'user',
    state: all ? 'good' : 'limited',
    found: all ? `${who}, with CAP_SYS_PTRACE` : `${who}, without CAP_SYS_PTRACE`,
    advice: all
      ? ["every process that this user's namespaces hold can be traced"]
      : ['own processes can be traced; for those of others: sudo, or CAP_SYS_PTRACE'],
  };
}

function judgePtrace(facts: SystemFacts): Finding {
  const topic = 'ptrace scope';
  const all = mayTraceAll(facts);
  const how = 'sudo sysctl kernel.yama.ptrace_scope=0, or run Trapline with sudo';
  switch (facts.ptraceScope) {
    case undefined:
      return { topic, state: 'good', found: 'no Yama: own processes can be traced (not tried)' };
    case 0:
      return { topic, state: 'good', found: '0: own processes can be traced (not tried)' };
    case 1:
      if (all) return { topic, state: 'good', found: '1: no limit with CAP_SYS_PTRACE' };
      return {
        topic,
        state: 'limited',
        found: '1: only commands that are started by Trapline can be traced (-- COMMAND)',
        advice: [`for running processes (-p): ${how}`],
      };
    case 2:
      if (all) return { topic, state: 'good', found: '2: no limit with CAP_SYS_PTRACE' };
      return { topic, state: 'missing', found: '2: only with CAP_SYS_PTRACE', advice: [how] };
    default:
      return {
        topic,
        state: 'missing',
        found: `${facts.ptraceScope}: nobody may trace`,
        advice: [
          'it can be changed only by a restart: see kernel.yama.ptrace_scope in /etc/sysctl.d',
        ],
      };
  }
}

function judgeNamespaces(facts: SystemFacts): Finding {
  const { userNamespace, pidNamespace, container } = facts;
  const own = [
    ...(userNamespace === FIRST_USER_NAMESPACE ? [] : ['user']),
    ...(pidNamespace === FIRST_PID_NAMESPACE ? [] : ['pid']),
  ];
  const seen = container.length === 0 ? '' : `; a container's marks: ${container.join(', ')}`;
  if (own.length === 0) {
    return { topic: 'namespaces', state: 'good', found: `the machine's own${seen}` };
  }
  return {
    topic: 'namespaces',
    state: 'limited',
    found: `a namespace of our own for ${own.join(' and ')}${seen}`,
    advice: ['only processes inside it can be seen and traced'],
  };
}

function judgeSeccomp({ seccomp, selinuxEnforces }: SystemFacts): Finding {
  const topic = 'restrictions';
  const advice = [
    ...(seccomp === 0
      ? []
      : [
          'a seccomp filter is on us: it may forbid ptrace and process_vm_readv (for Docker:',
          '--cap-add=SYS_PTRACE, or --security-opt seccomp=unconfined)',
        ]),
    ...(selinuxEnforces
      ? ['SELinux enforces: deny_ptrace and execmem of the target decide (getsebool deny_ptrace)']
      : []),
  ];
  if (advice.length === 0) return { topic, state: 'good', found: 'no seccomp filter, no SELinux' };
  const what = [...(seccomp === 0 ? [] : ['seccomp']), ...(selinuxEnforces ? ['SELinux'] : [])];
  return { topic, state: 'limited', found: what.join(' and '), advice };
}

/** vm.memfd_noexec (Documentation/admin-guide/sysctl/vm.rst): 2 refuses files that may be executed. */
function judgeMemoryFiles({ memfdNoexec }: SystemFacts): Finding {
  const topic = 'memory files';
  if (memfdNoexec !== 2) return { topic, state: 'good', found: 'code can be mapped from memory' };
  return {
    topic,
    state: 'missing',
    found: 'vm.memfd_noexec is 2: no code can be mapped from memory',
    advice: ['sudo sysctl vm.memfd_noexec=1'],
  };
}

/** `--engine kernel` is an offer, not a need: what it lacks is no fault of the machine. */
function judgeTracefs({ tracefs, pidNamespace }: SystemFacts): Finding {
  const topic = 'kernel engine';
  const state = 'note';
  const root = ['run Trapline as root (sudo): it writes uprobe_events and makes tracing instances'];
  switch (tracefs) {
    case 'absent':
      return {
        topic,
        state,
        found: '--engine kernel can not be used: tracefs is not mounted, or has no uprobes',
        advice: [
          'sudo mount -t tracefs tracefs /sys/kernel/tracing (CONFIG_UPROBE_EVENTS)',
          ...root,
        ],
      };
    case 'closed':
    case 'readable':
      return {
        topic,
        state,
        found: '--engine kernel can not be used: tracefs is there, and not for this user to write',
        advice: root,
      };
    case 'writable':
      return pidNamespace === FIRST_PID_NAMESPACE
        ? { topic, state: 'good', found: '--engine kernel can be used' }
        : {
            topic,
            state,
            found: '--engine kernel can not be used in a pid namespace of its own',
            advice: ['its numbers of processes are not those of the kernel: run outside of it'],
          };
    default:
      return unreachable(tracefs);
  }
}

/** Rule 13: what the kernel has set already is refused at install; what it sets later is not seen. */
function judgeKernelProbes({ kernelProbes, tracefs }: SystemFacts): Finding {
  const topic = 'kernel uprobes';
  const probes = kernelProbes.filter((line) => /^[pr]/.test(line));
  if (tracefs === 'absent' || tracefs === 'closed') {
    return { topic, state: 'note', found: 'whether there are any can not be seen' };
  }
  if (probes.length === 0) return { topic, state: 'good', found: 'none is defined' };
  return {
    topic,
    state: 'limited',
    found: `${probes.length} defined: their places can not be probed while they are on`,
    advice: probes.slice(0, 5),
  };
}

function judgePerf({ perfParanoid }: SystemFacts): Finding {
  return {
    topic: 'perf events',
    state: 'note',
    found: `kernel.perf_event_paranoid is ${perfParanoid ?? 'not there'}; Trapline needs none`,
  };
}

function judgeFuse({ fuse }: SystemFacts): Finding {
  const found = {
    usable: '/dev/fuse can be opened',
    closed: '/dev/fuse is there, but not for this user',
    absent: 'there is no /dev/fuse',
  };
  return { topic: 'FUSE', state: 'note', found: `${found[fuse]}; this version needs none` };
}

/** Exported functions have their names in any case; local ones of programs that were stripped have not. */
function judgeDebugFiles({ debugFolders, distribution }: SystemFacts): Finding {
  const found =
    debugFolders.length === 0
      ? 'none on this machine'
      : `some in ${debugFolders.join(', ')}: used where they fit`;
  return {
    topic: 'debug files',
    state: 'note',
    found: `${found}; needed for names of local functions of stripped files only`,
    advice: waysToDebugFiles(distribution),
  };
}
