/** The public types of what is there of sessions: what they hold in processes and in the kernel, and what is cleaned. */

import type { Address, FileOffset } from '../../base/brand.ts';
import type { SiteMethod } from '../../process/control-rows.ts';
import type { RefusedSite } from '../types.ts';

/** One probe of a living session, as that tells of it. */
export interface DescribedProbe {
  /** Its number in the session. */
  readonly id: number;
  /** As it was asked for. */
  readonly definition: string;
  /** As the kernel's `uprobe_events` lists it: see {@link AddedProbe.listing}. */
  readonly listing: string;
  readonly action: 'record' | 'count';
  readonly filter?: string;
  /** Measured: nanoseconds that one hit costs its task; absent while nobody has measured it. */
  readonly costNanoseconds?: number;
  /** Places that could not be probed, and why; in no particular process where the pid is 0. */
  readonly refused: readonly RefusedSite[];
}

/** What one session holds in one process. */
export interface HeldSession {
  /** The number of its tracer's thread, in the tracer's own pid namespace. */
  readonly tracer: number;
  readonly alive: boolean;
  /** Unix time in seconds. */
  readonly began: number;
  /** Of probes: one for each of their places. */
  readonly programs: number;
  /** The process that the session is of, if it lives and we may look at it. */
  readonly owner?: {
    readonly pid: number;
    /** Its command line. */
    readonly command: string;
    /** Its probes, in whatever process. */
    readonly probes: readonly DescribedProbe[];
  };
}

/** One consumer's program at one place. */
export interface HeldProgram {
  /** Of the session that it belongs to. */
  readonly tracer: number;
  /** The number of its probe in that session: see {@link DescribedProbe}. */
  readonly probe: number;
  /** Of this process, and of all that share its segment: its children. Absent where they can't be read. */
  readonly hits?: number;
}

/** One place in one process. */
export interface HeldSite {
  readonly address: Address;
  readonly file: string;
  readonly offset: FileOffset;
  readonly name: string;
  readonly state: 'live' | 'retired';
  readonly method: SiteMethod;
  /** What runs there at a hit. */
  readonly programs: readonly HeldProgram[];
  /** Whether the bytes in memory are those that belong there; if not, what was found. */
  readonly found: string;
}

/** What sessions, living and dead, hold in one process. */
export interface ProcessStatus {
  readonly pid: number;
  /** Its number in its own pid namespace (a container), if that is another than ours. */
  readonly namespacePid?: number;
  readonly comm: string;
  readonly sessions: readonly HeldSession[];
  readonly sites: readonly HeldSite[];
  /**
   * Where the process tells sessions of itself: the dynamic linker that libraries come and go, the C library what a followed
   * process executes. Jumps like those of probes, whose hits are no events. Absent where there are none.
   */
  readonly hooks?: readonly HeldSite[];
  /** What was mapped for the addresses to which puns lead; of it, only touched pages are memory. */
  readonly puns?: { readonly mappings: number; readonly mappedBytes: number };
  /** Bytes of address space that our mappings take. */
  readonly mappedBytes: number;
  /** Why the control block could not be read, if so. */
  readonly unreadable?: string;
}

/** What {@link ProcessStatus} of dead sessions became. */
export interface CleanReport {
  readonly pid: number;
  readonly sessionsRemoved: number;
  readonly sitesRestored: number;
  /** Bytes of address space that our mappings took and take no more. */
  readonly bytesUnmapped: number;
  /** What stays, and why. */
  readonly kept: readonly string[];
}

/** What one session has in the kernel, living or dead. */
export interface KernelStatus {
  /** Of its tracing instance, and of the group of its events. */
  readonly name: string;
  /** The process that made it. */
  readonly pid: number;
  readonly alive: boolean;
  readonly events: readonly string[];
  /** Places that are probed. */
  readonly places: number;
}

/** What {@link KernelStatus} of a dead session became. */
export interface KernelCleanReport {
  readonly name: string;
  readonly eventsRemoved: number;
  /** What stays, and why. */
  readonly kept: readonly string[];
}
