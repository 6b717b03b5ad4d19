/**
 * The messages of the kernel's process connector, taken apart: values in, values out.
 *
 * A datagram holds `struct nlmsghdr` (include/uapi/linux/netlink.h), in it `struct cn_msg`
 * (include/uapi/linux/connector.h), in it `struct proc_event` (include/uapi/linux/cn_proc.h). Each cpu numbers what
 * it sends (drivers/connector/cn_proc.c, send_msg), so a number that is missing is a message that is missing.
 */

import { pid, type Pid } from '../base/brand.ts';

// struct nlmsghdr: u32 length, u16 type, u16 flags, u32 sequence, u32 port.
const HEADER_BYTES = 16;
const HEADER_TYPE = 4;
const HEADER_PORT = 12;
const NLMSG_DONE = 3;
const NLMSG_OVERRUN = 4;

// struct cn_msg: u32 idx, u32 val, u32 seq, u32 ack, u16 len, u16 flags.
const CONNECTOR_BYTES = 20;
const CONNECTOR_VALUE = 4;
const CONNECTOR_SEQUENCE = 8;
const CONNECTOR_ACK = 12;
const CONNECTOR_LENGTH = 16;
const CN_IDX_PROC = 1;
const CN_VAL_PROC = 1;

// struct proc_event: u32 what, u32 cpu, u64 timestamp_ns, and what belongs to the kind of event.
const EVENT_CPU = 4;
const EVENT_DATA = 16;
const FORK_CHILD = 8;
const FORK_CHILD_PROCESS = 12;
const TASK_PROCESS = 4;

const EventKind = {
  acknowledgement: 0,
  fork: 1,
  exec: 2,
  exit: 0x8000_0000,
} as const;

/** How much must follow the time of an event that is read: bytes by kind. */
const neededBytes: ReadonlyMap<number, number> = new Map([
  [EventKind.acknowledgement, 4],
  [EventKind.fork, 16],
  [EventKind.exec, 8],
  [EventKind.exit, 8],
]);

/** PID_MAX_LIMIT of include/linux/threads.h. */
const LARGEST_PID = 1 << 22;

/** `enum proc_cn_mcast_op` of include/uapi/linux/cn_proc.h. */
export const ConnectorOperation = { listen: 1, ignore: 2 } as const;

/**
 * A request to the process connector.
 * @param operation of {@link ConnectorOperation}
 * @param token what tells the acknowledgement from those of other listeners, which all get: any 32 bits
 */
export function connectorRequest(operation: number, token: number): Buffer {
  const length = HEADER_BYTES + CONNECTOR_BYTES + 4;
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(length, 0);
  bytes.writeUInt16LE(NLMSG_DONE, HEADER_TYPE);
  bytes.writeUInt32LE(CN_IDX_PROC, HEADER_BYTES);
  bytes.writeUInt32LE(CN_VAL_PROC, HEADER_BYTES + CONNECTOR_VALUE);
  bytes.writeUInt32LE(token, HEADER_BYTES + CONNECTOR_ACK);
  bytes.writeUInt16LE(4, HEADER_BYTES + CONNECTOR_LENGTH);
  bytes.writeUInt32LE(operation, HEADER_BYTES + CONNECTOR_BYTES);
  return bytes;
}

/**
 * What happened to processes since the last time. Ids are of whole processes, in the initial pid namespace.
 *
 * Take what ended first, then look at what began: an id that is in `exited` and in `forked` is of a process that
 * began and is over already, or of one that is over and whose id another has now.
 */
export interface ProcessChanges {
  /** Processes that began as a copy of another. A thread that begins is none. */
  readonly forked: ReadonlySet<Pid>;
  /** Processes that execute another program now. */
  readonly executed: ReadonlySet<Pid>;
  /** Processes of which no thread runs any more; the parent may have yet to wait for them. */
  readonly exited: ReadonlySet<Pid>;
  /** Something is missing: whoever keeps a list must look at all processes once, after this call. */
  readonly lost: boolean;
}

const NOTHING: ProcessChanges = {
  forked: new Set(),
  executed: new Set(),
  exited: new Set(),
  lost: false,
};

/** Gathers messages of the process connector into {@link ProcessChanges}. */
export class ProcessTally {
  readonly #token: number;
  readonly #nextOfCpu = new Map<number, number>();
  /** Processes whose first thread has ended: the kernel says no more when the others have, too. */
  readonly #leaderless = new Set<Pid>();
  #forked = new Set<Pid>();
  #executed = new Set<Pid>();
  #exited = new Set<Pid>();
  #lost = false;
  #isNumberedAnew = false;
  #answer: number | undefined;

  /** @param token that of the {@link connectorRequest} whose acknowledgement is expected */
  constructor(token: number) {
    this.#token = token;
  }

  /** How the request was answered: an errno, or 0 for well; undefined before that. */
  get answer(): number | undefined {
    return this.#answer;
  }

  /**
   * Notes that the kernel dropped messages since it had no room for them: all that it did before the socket was
   * empty. What the caller looks at then makes up for it, so that the gaps in the numbers are no further loss.
   */
  lose(): void {
    this.#lost = true;
    this.#isNumberedAnew = true;
  }

  /**
   * Takes one datagram, which lies in `bytes` at `from` and ends before `to`. What is cut or contradicts itself counts
   * as lost; what is of another kind, or not from the kernel, is passed over.
   */
  take(bytes: Buffer, from: number, to: number): void {
    let at = from;
    while (to - at >= HEADER_BYTES) {
      const length = bytes.readUInt32LE(at);
      if (length < HEADER_BYTES || length > to - at) break;
      this.#takeMessage(bytes, at, at + length);
      at += (length + 3) & ~3; // NLMSG_ALIGN; behind the last one the filling may be missing
    }
    if (at < to) this.#lost = true;
  }

  /**
   * What came since the last time; to be asked when the socket is empty.
   * @param hasEnded whether all threads of a process have ended. Asked of those whose first thread has: its event
   * is the same whether others go on or not (drivers/connector/cn_proc.c, proc_exit_connector).
   */
  changes(hasEnded: (process: Pid) => boolean): ProcessChanges {
    for (const process of this.#leaderless) {
      if (!hasEnded(process)) continue;
      this.#leaderless.delete(process);
      this.#exited.add(process);
    }
    if (this.#isNumberedAnew) this.#nextOfCpu.clear();
    this.#isNumberedAnew = false;
    const [forked, executed, exited, lost] = [
      this.#forked,
      this.#executed,
      this.#exited,
      this.#lost,
    ];
    if (forked.size + executed.size + exited.size === 0 && !lost) return NOTHING;
    this.#forked = new Set();
    this.#executed = new Set();
    this.#exited = new Set();
    this.#lost = false;
    return { forked, executed, exited, lost };
  }

  #takeMessage(bytes: Buffer, at: number, end: number): void {
    if (bytes.readUInt32LE(at + HEADER_PORT) !== 0) return; // another process's
    const type = bytes.readUInt16LE(at + HEADER_TYPE);
    if (type === NLMSG_OVERRUN) this.#lost = true;
    if (type !== NLMSG_DONE) return;
    const connector = at + HEADER_BYTES;
    if (end - connector < CONNECTOR_BYTES) {
      this.#lost = true;
      return;
    }
    if (bytes.readUInt32LE(connector) !== CN_IDX_PROC) return;
    if (bytes.readUInt32LE(connector + CONNECTOR_VALUE) !== CN_VAL_PROC) return;
    const event = connector + CONNECTOR_BYTES;
    const length = bytes.readUInt16LE(connector + CONNECTOR_LENGTH);
    if (length < EVENT_DATA || length > end - event) {
      this.#lost = true;
      return;
    }
    const kind = bytes.readUInt32LE(event);
    this.#follow(
      bytes.readUInt32LE(event + EVENT_CPU),
      bytes.readUInt32LE(connector + CONNECTOR_SEQUENCE),
    );
    if (length - EVENT_DATA < (neededBytes.get(kind) ?? 0)) this.#lost = true;
    else if (kind !== EventKind.acknowledgement) this.#takeEvent(kind, bytes, event + EVENT_DATA);
    // The kernel answers with our number and one (cn_proc_ack).
    else if (bytes.readUInt32LE(connector + CONNECTOR_ACK) === (this.#token + 1) >>> 0) {
      this.#answer = bytes.readUInt32LE(event + EVENT_DATA);
    }
  }

  /** Sees gaps in the numbers of a cpu: the kernel had no memory for a message, which no error tells us. */
  #follow(cpu: number, number: number): void {
    const expected = this.#nextOfCpu.get(cpu);
    if (expected !== undefined && expected !== number) this.#lost = true;
    this.#nextOfCpu.set(cpu, (number + 1) >>> 0);
  }

  #takeEvent(kind: number, bytes: Buffer, data: number): void {
    if (kind === EventKind.fork) {
      const process = this.#process(bytes, data + FORK_CHILD, data + FORK_CHILD_PROCESS);
      if (process === undefined) return;
      // An id is given away again only when nothing is left of who had it.
      if (this.#leaderless.delete(process)) this.#exited.add(process);
      this.#forked.add(process);
    } else if (kind === EventKind.exec) {
      const process = this.#process(bytes, data, data + TASK_PROCESS);
      if (process === undefined) return;
      // A thread that executes ends the others, the first too, and becomes the first (fs/exec.c, de_thread).
      this.#leaderless.delete(process);
      this.#executed.add(process);
    } else if (kind === EventKind.exit) {
      const process = this.#process(bytes, data, data + TASK_PROCESS);
      if (process !== undefined) this.#leaderless.add(process);
    }
  }

  /** The process whose first thread is meant; undefined for another thread. */
  #process(bytes: Buffer, taskAt: number, processAt: number): Pid | undefined {
    const task = bytes.readInt32LE(taskAt);
    const process = bytes.readInt32LE(processAt);
    if (Math.min(task, process) < 1 || Math.max(task, process) > LARGEST_PID) this.#lost = true;
    else if (task === process) return pid(process);
    return undefined;
  }
}
