/** The public types of a session: what is asked for and what is told. */

import type { Address, FileOffset } from '../base/brand.ts';
import type { ConsumerAccount } from '../events/account.ts';
import type { EngineName } from '../probe/engine.ts';
import type { ProcessFacts, TaskFilter } from '../probe/task-filter.ts';
import type { SiteMethod } from '../process/control-rows.ts';

/** Which processes a session is about. Nothing named means nothing probed. */
export interface TargetSelection {
  /** Running processes, all their tasks. */
  readonly pids?: readonly number[];
  /** Tasks: their processes are probed, and only their hits are events; the others are filtered. */
  readonly tids?: readonly number[];
  /**
   * Every process of this user (for root: of the machine) that maps a probed file, those that start or come to
   * map it later too: with the kernel engine at once, with the jump engine within half a second. Never our own
   * process, its ancestors, or process 1. Such a session ends only when it is stopped.
   */
  readonly all?: boolean;
}

/** One probe to be added. */
export interface ProbeRequest {
  /** The definition's text; docs/probes.md has the grammar. */
  readonly definition: string;
  /** Where it was written, as `FILE:LINE`: errors about it begin with that. */
  readonly origin?: string;
  /** Function names that a glob in the definition must not take, globs too. */
  readonly exclude?: readonly string[];
  /**
   * Event filters, beside the definition's own: `size > 4096 && common_pid != 7`; docs/probes.md has the grammar. All
   * of them have to hold.
   */
  readonly filter?: string | readonly string[];
  /** `record` (default) makes an event of each hit, `count` only counts it. */
  readonly action?: 'record' | 'count';
  /** Among the targets, the processes that get the probe: every one if absent. Not for the kernel engine. */
  readonly tasks?: TaskFilter;
}

/** What a session may be told beside its targets. */
export interface SessionOptions {
  /**
   * `jump` (default) needs no privilege and costs nanoseconds a hit; `kernel` hands the same definitions to
   * the kernel's uprobes: root only, microseconds a hit, whole machine.
   */
  readonly engine?: EngineName;
  readonly probes?: readonly (string | ProbeRequest)[];
  /**
   * Bytes of one task's ring, a power of two from 256 KiB; 1 MiB if absent. Only what is used costs memory.
   * Kernel engine: of one processor's ring, which the kernel takes at once; 8 MiB if the budget allows.
   */
  readonly ringBytes?: number;
  /** Bytes of all rings of one target together; 64 MiB if absent. It bounds the tasks that can record. */
  readonly ringBudget?: number;
  /** Names every stub in `/tmp/perf-PID.map`, so that profilers can show them. */
  readonly perfMap?: boolean;
  /** Whether the targets, and all that they make from now on, are held by ptrace: docs/cli.md, `--follow`. False if absent. */
  readonly follow?: boolean;
  /** Told of each process that becomes a target after the session has begun; what it throws ends the search for more, which is a problem. */
  readonly onTarget?: (target: TargetInfo) => void;
  /**
   * Told, for people, of what keeps the session from doing all that it was asked for, when that turns out after it
   * has begun: a process that was found later and can't be probed, or that no more can be found. It goes on.
   */
  readonly onProblem?: (problem: string) => void;
}

/** How a command is started; `follow` is true if absent, but for the kernel engine. */
export interface SpawnOptions extends SessionOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** One place that was made a probe in one target. */
export interface ProbedSite {
  /** 0 for every process: with the kernel engine `all`, and a file that no target maps yet. */
  readonly pid: number;
  readonly event: string;
  /** The function's name as people read it, with an offset: `zfree`, `ns::f(int)+0x8`; else the file offset. */
  readonly name: string;
  readonly file: string;
  readonly offset: FileOffset;
  /** In that process; 0 where every process is meant. */
  readonly address: Address;
  /** How the place was made a probe: how its bytes lead to a stub of ours, or that the kernel has a uprobe there. */
  readonly method: SiteMethod | 'uprobe';
  /** Bytes of instructions that a stub executes in their place; 0 for a uprobe. */
  readonly displacedBytes: number;
}

/** A place that could not be probed, and why. */
export interface RefusedSite {
  readonly pid: number;
  readonly name: string;
  readonly file: string;
  readonly reason: string;
}

/** What became of a {@link ProbeRequest}. */
export interface AddedProbe {
  readonly id: number;
  /** As it was asked for. */
  readonly definition: string;
  /**
   * As the kernel's `uprobe_events` lists it, filters left out: `p:uprobes/p_zsh_0x4245c0 /bin/zsh:0x00000000004245c0
   * arg1=%di`. A function, or a file that is no path, stands as it was written; a glob whose functions have
   * events of their own is named by its pattern.
   */
  readonly listing: string;
  readonly action: 'record' | 'count';
  /** The event filter of the request, if it had one beside the definition's own; several joined by `&&`. */
  readonly filter?: string;
  readonly sites: readonly ProbedSite[];
  readonly refused: readonly RefusedSite[];
  /** Functions that its glob matches and {@link ProbeRequest.exclude} left out, if there are some. */
  readonly excluded?: number;
  /**
   * Targets that its task filter does not choose, as they were when it was last looked, if there are some; not told where
   * every process is a target, and of a filter with a predicate.
   */
  readonly unchosen?: readonly ProcessFacts[];
}

/** One target of a session. */
export interface TargetInfo {
  readonly pid: number;
  /** Its number in its own pid namespace (a container), if that is another than ours. */
  readonly namespacePid?: number;
  readonly comm: string;
  readonly executable: string;
}

/** How a target ended. */
export interface TargetEnd {
  readonly pid: number;
  /** Known only of a command that the session started. */
  readonly status?: { readonly code: number | undefined; readonly signal: string | undefined };
}

/** The counts of one event: one probe in all targets. */
export interface EventSummary extends ConsumerAccount {
  readonly event: string;
  readonly definition: string;
  /**
   * Measured cost of one hit of this very program, in nanoseconds: the mean of all of them, those that its filter
   * refused and those that were missed too, each at what it came to.
   */
  readonly costNanoseconds: number;
}

/** How long targets stood still for us. */
export interface Stops {
  /** In nanoseconds, in how many stops, and the longest. */
  readonly stoppedNanoseconds: number;
  readonly stops: number;
  readonly longestStopNanoseconds: number;
}

/** What a session cost its targets: DESIGN 6, the bill. */
export interface Bill extends Stops {
  /** Hits × the measured cost of what their stubs did, in nanoseconds. Measured in our own process: an estimate. */
  readonly stubNanoseconds: number;
  /** Processor time that the targets used while the session watched, in nanoseconds. */
  readonly targetNanoseconds: number;
}

/** The end of a session, or its state in between. */
export interface Summary {
  readonly events: readonly EventSummary[];
  readonly bill: Bill;
  /** Records that a task left unfinished, and garbage that a target wrote over its rings. */
  readonly loss: { readonly abandoned: number; readonly corrupt: number; readonly overrun: number };
  /** What could not be given back yet, with the reason; empty is the rule. */
  readonly kept: readonly string[];
}

/** What of a file's functions is to be listed. */
export interface ListRequest {
  /** Only what it matches, by raw or readable name. */
  readonly glob?: string;
  /** Also functions without a name, found by the unwind tables. Default: no. */
  readonly unnamed?: boolean;
}

/** The functions of a file. */
export interface FunctionList {
  /** By offset, all names of each. */
  readonly functions: readonly ListedFunction[];
  /** What is missing of the names, and what would give them, if so. */
  readonly advice?: string;
  /** Of the debug file, if it names one. */
  readonly commonFile?: CommonFile;
}

/**
 * What several debug files share, which `dwz` has moved to a file of its own: debug information. Names of functions are in
 * the debug files themselves.
 */
export interface CommonFile {
  /** Where it was found, else as the debug file names it. */
  readonly path: string;
  /** In lower-case hexadecimal. */
  readonly buildId: string;
  readonly found: boolean;
  /** Why what is there was not taken. */
  readonly problem?: string;
}

/** A function that can be named in a probe. */
export interface ListedFunction {
  /** As the file has it; for an unnamed function the location that a probe takes: `zsh:0x4245c0`. */
  readonly name: string;
  readonly demangled?: string;
  readonly version?: string;
  readonly offset: FileOffset;
  readonly size: number;
  /**
   * `ifunc`: the implementation is chosen at start. `assembly`: without a type. `plt`: the entry by which the file calls a
   * function of another. `unnamed`: known by the unwind tables only.
   */
  readonly kind: 'function' | 'ifunc' | 'assembly' | 'plt' | 'unnamed';
  readonly binding: 'local' | 'global' | 'weak';
  /** What told: a section (`.dynsym`), or the path of the debug file. */
  readonly source: string;
}

/** What is to be explained. */
export interface ExplainRequest {
  /** The process in which the place is looked at; the file alone if absent. */
  readonly pid?: number;
  /** Whether the code that would be written is shown. */
  readonly stub?: boolean;
}

/** An instruction near a place. Addresses are the file's own. */
export interface ExplainedInstruction {
  readonly offset: number;
  readonly address: bigint;
  /** In hexadecimal. */
  readonly bytes: string;
  readonly text: string;
  /** Whether a stub would execute it in its stead. */
  readonly isDisplaced: boolean;
}

/** Code of ours, as it would be written. */
export interface ExplainedCode {
  readonly name: string;
  /** Addresses in the process, or in the one that was thought up: see {@link Explanation.base}. */
  readonly lines: readonly { readonly address: bigint; readonly text: string }[];
}

/** Why a place is probed as it is, or is not. */
export interface Explanation {
  readonly name: string;
  readonly file: string;
  readonly offset?: FileOffset;
  /** The file's own address (p_vaddr). */
  readonly address?: bigint;
  readonly pid?: number;
  readonly processAddress?: Address;
  /** Where only a file was looked at: where it was thought to lie, and code of ours beside it. */
  readonly base?: Address;
  /** Its function, by file offsets, and what says so. */
  readonly function?: {
    readonly start: FileOffset;
    readonly end: FileOffset;
    readonly source: 'symbol' | 'fde' | 'section';
  };
  /** The instructions of its function around it. */
  readonly code: readonly ExplainedInstruction[];
  /** Who comes to the place and to the four bytes behind it, by file offset, otherwise than from the instruction before. */
  readonly landings: readonly { readonly at: number; readonly reason: string }[];
  /** Why it can't be probed by a jump. */
  readonly refused?: string;
  /** Of a refused place: the nearest instructions of its function that can be probed, before it and behind it, if any. */
  readonly nearest?: readonly FileOffset[];
  readonly method?: SiteMethod;
  /** Whether the site is there already. */
  readonly isThere?: boolean;
  /** What is written at the place, in hexadecimal. */
  readonly patch?: string;
  /** Bytes of instructions that the stub executes in their stead. */
  readonly displacedBytes?: number;
  /** Bytes of each mapping that the process would get for it, beside what every session has. */
  readonly mapped?: readonly number[];
  /** Cheaper methods, and why they are not taken. */
  readonly rejected: readonly { readonly method: SiteMethod; readonly reason: string }[];
  /** Measured on this machine: one hit that is counted, and one that does what the definition says. */
  readonly costNanoseconds?: { readonly count: number; readonly record: number };
  readonly stub?: readonly ExplainedCode[];
}
