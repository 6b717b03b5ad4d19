/** What the main thread asks of the tracer's thread, and what it is answered. All of it survives a message. */

import type { Announcement } from '../events/announcements.ts';
import type { RecordLayout, SegmentShape } from '../events/layout.ts';
import type { KernelRing } from '../engines/kernel/reader.ts';
import type { KernelPlace } from '../engines/kernel/target.ts';
import type { EngineName, HitCost } from '../probe/engine.ts';
import type { ProcessFacts } from '../probe/task-filter.ts';
import type { Program } from '../probe/program.ts';
import type { MeasuredConsumer } from './reading/cost.ts';
import type {
  CleanReport,
  KernelCleanReport,
  KernelStatus,
  ProcessStatus,
} from './reports/held.ts';
import type {
  AddedProbe,
  ExplainRequest,
  Explanation,
  FunctionList,
  ListRequest,
  ProbeRequest,
  Stops,
  TargetInfo,
  TargetSelection,
} from './types.ts';

/** The sizes of a session's memory, decided. */
export interface SessionShape {
  readonly engine: EngineName;
  readonly segment: SegmentShape;
  /** Bytes of one processor's ring in the kernel. */
  readonly kernelRingBytes: number;
  readonly perfMap: boolean;
}

/** One target's segment: mapped by the tracer's thread, read by the main thread. */
export interface SegmentHandle {
  readonly kind: 'segment';
  readonly source: number;
  readonly pid: number;
  /** Where it is in our own process. Valid until `close`. */
  readonly address: bigint;
  readonly shape: SegmentShape;
  /** Whether the pids that its contexts show are ours to look up in /proc. */
  readonly samePidNamespace: boolean;
}

/** The kernel's rings of a session, opened and read by the main thread. */
export interface KernelHandle {
  readonly kind: 'kernel';
  readonly source: number;
  readonly ring: KernelRing;
}

/** Something that events come from. */
export type SourceHandle = SegmentHandle | KernelHandle;

/** One consumer in one target: what its events mean. */
export interface ConsumerHandle {
  /** The number of the source that its events come from. */
  readonly source: number;
  /** The event id of its records there. */
  readonly consumer: number;
  readonly probe: number;
  readonly event: string;
  readonly definition: string;
  readonly layout: RecordLayout;
  readonly address: bigint;
  readonly program: Program;
  /** Where the kernel has it, if it does. */
  readonly kernel?: KernelPlace;
}

/** What became of a request for probes. */
export interface AddReply {
  readonly probe: AddedProbe;
  /** Sources that are new since the last reply. */
  readonly sources: readonly SourceHandle[];
  readonly consumers: readonly ConsumerHandle[];
}

/** What a process had used of the processor before its first probe, in nanoseconds. */
export interface ProcessorTime {
  readonly pid: number;
  readonly nanoseconds: number;
}

/** What became of a session's beginning. */
export interface OpenReply {
  /** The number of the tracer's thread, as control blocks name the session. */
  readonly tracer: number;
  readonly processorTimes: readonly ProcessorTime[];
  /** The command that the session started, if it did. */
  readonly command: number | undefined;
  /** Whether its targets are held, with all that they make: the tracer tells of them ({@link Notice}). */
  readonly isFollowing: boolean;
  /** Whether every process is a target: the session ends only by itself. */
  readonly isEndless: boolean;
  /** Whether later ones are found by walks. */
  readonly isWalking: boolean;
  readonly targets: readonly TargetInfo[];
  readonly added: readonly AddReply[];
  readonly stops: Stops;
}

/** How a command ended. */
export interface EndReply {
  readonly pid: number;
  readonly code: number | undefined;
  readonly signal: string | undefined;
  /** Processor time that it used, with its waited-for children, in nanoseconds. */
  readonly cpuNanoseconds: number;
}

/** A request as the tracer gets it: its task filter was asked on this side, where predicates can be called. */
export interface WantedProbe extends Omit<ProbeRequest, 'tasks'> {
  /** The processes that its task filter lets pass; every target if undefined. */
  readonly pids?: readonly number[];
}

/** A process that could get probes. */
export interface Candidate {
  readonly process: ProcessFacts;
  /** Which: before a session by their places in the request, then by their numbers. */
  readonly probes: readonly number[];
}

/** A process that is to get probes, by their numbers. */
export interface WantedProcess {
  readonly pid: number;
  readonly probes: readonly number[];
}

/** A source of events, and its process. */
export interface SourceOf {
  readonly source: number;
  readonly pid: number;
}

/** A source in which tasks have announced themselves. */
export interface AnnouncedIn {
  readonly source: number;
  /** As they say themselves; undefined where not all of them are known. */
  readonly tasks: readonly Announcement[] | undefined;
}

/** What a walk found. */
export interface WalkReply {
  readonly candidates: readonly Candidate[];
  /** Sources whose process has ended, or runs another program now. Its children may go on. */
  readonly ended: readonly SourceOf[];
  /** Those of them that nobody writes to any more. */
  readonly abandoned: readonly number[];
}

/** That a session's processes are followed, and what task filters ask for. */
export interface Following {
  /** Whether a new program has to be asked about. */
  readonly hasFilters: boolean;
  /** Whether a child that was forked could pass where its parent does not, or the other way round. */
  readonly filtersChildren: boolean;
}

/** What became of probes in processes that were found later. */
export interface ExtendReply {
  readonly added: readonly AddReply[];
  readonly targets: readonly TargetInfo[];
  readonly processorTimes: readonly ProcessorTime[];
}

/** What the tracer tells without being asked: of processes that it holds. */
export type Notice =
  /** As a walk would tell it. A candidate is held until `decide`. */
  | { readonly kind: 'walked'; readonly reply: WalkReply }
  /** A new program has its probes. */
  | { readonly kind: 'extended'; readonly reply: ExtendReply }
  /** Something that a person should know. */
  | { readonly kind: 'said'; readonly text: string }
  /** A process was let go: {@link TracerMethods.settle} is to be asked until it executes its program. */
  | { readonly kind: 'released' }
  /** No process is held any more: all have ended, or were let go. */
  | { readonly kind: 'alone' };

/** What is asked of the tracer: one at a time, each answered by a value or an error. */
export interface TracerMethods {
  /** Loads what any session needs, before one is asked for. */
  prepare(): void;
  attach(
    selection: TargetSelection,
    shape: SessionShape,
    probes: readonly WantedProbe[],
    following: Following | undefined,
  ): OpenReply;
  spawn(
    command: readonly string[],
    where: { readonly cwd?: string; readonly env: Readonly<Record<string, string | undefined>> },
    shape: SessionShape,
    probes: readonly WantedProbe[],
    following: Following | undefined,
  ): OpenReply;
  /** The processes that are selected, or the session's, and which of the probes each could get. */
  candidates(
    selection: TargetSelection | undefined,
    probes: readonly WantedProbe[],
  ): readonly Candidate[];
  /** What has changed since the last walk: among these processes, or all, where every one is a target. */
  walk(pids: readonly number[] | undefined): WalkReply;
  /** Which processes could get which probes: those of tasks that have announced that libraries came or went. */
  look(announced: readonly AnnouncedIn[]): readonly Candidate[];
  /** Adds probes to processes that a walk found. */
  extend(wanted: readonly WantedProcess[]): ExtendReply;
  /** Which probes processes get that were held for the answer; the others of these get none. */
  decide(pids: readonly number[], wanted: readonly WantedProcess[]): void;
  /** Looks at the processes that were let go. @returns whether some have not executed their programs yet */
  settle(): boolean;
  /** Unmaps sources that were abandoned; the main thread reads them no more. */
  retire(sources: readonly number[]): void;
  add(request: WantedProbe): AddReply;
  /** @returns what had to stay. */
  remove(probe: number): readonly string[];
  /** What lies at addresses of a process, for people. */
  symbolize(pid: number, addresses: readonly bigint[]): readonly (string | undefined)[];
  /** How the command that was started has ended, if it has. */
  pollEnd(): EndReply | undefined;
  /** What a hit of each consumer costs. */
  measure(consumers: readonly MeasuredConsumer[]): readonly HitCost[];
  stops(): Stops;
  /** Takes everything out of all targets. @returns what had to stay. */
  leave(): readonly string[];
  /** Gives back what was kept for reading; all was read. @returns what had to stay. */
  release(): readonly string[];
  /** Unmaps the segments on our side; the main thread reads them no more. */
  close(): void;
  /** Takes out all of a session that did not come to be, and gives back its memory. */
  abandon(): void;
  status(pids: readonly number[] | undefined): readonly ProcessStatus[];
  clean(pids: readonly number[] | undefined): readonly CleanReport[];
  /** What sessions have in the kernel; nothing where there is no tracefs for us. */
  kernelStatus(): readonly KernelStatus[];
  kernelClean(): readonly KernelCleanReport[];
  list(file: string, request: ListRequest): FunctionList;
  explain(definition: string, request: ExplainRequest): readonly Explanation[];
}

/** What is asked of the tracer's thread: what its tracer is, and for another tracer. */
export interface ThreadMethods extends TracerMethods {
  /**
   * Puts a new tracer in the place of one that has nothing to do any more.
   * @returns false where something of it is left that only the thread's end lets go
   */
  renew(): boolean;
}

/** What the tracer's thread is given. */
export interface TracerData {
  /** The table of `sys/commands.ts`. */
  readonly commands: SharedArrayBuffer;
  /** The words of `process/waker.ts`. */
  readonly wake: SharedArrayBuffer;
}

/** A request as it is posted. */
export interface RequestMessage {
  readonly id: number;
  readonly method: keyof ThreadMethods;
  readonly arguments: readonly unknown[];
}

/** What is told without being asked, as it is posted. */
export interface NoticeMessage {
  readonly notice: Notice;
}

/** An answer as it is posted. */
export type ReplyMessage =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: unknown };
