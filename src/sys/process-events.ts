/**
 * The kernel's process connector: a socket that tells of every process of the machine that begins, executes or
 * ends (drivers/connector/cn_proc.c). Linux before 6.6 tells it to CAP_NET_ADMIN alone, later ones to anybody;
 * all of them only within the initial namespaces for processes, users and networks.
 *
 * The kernel's event mask (6.6 and later) is not used: with it neither the acknowledgement comes nor can a gap in
 * the numbers be seen, since what was masked was numbered too (cn_filter, send_msg). It would spare us only changes of
 * ids, sessions, tracers and names; of threads the kernel tells in any case.
 */

import { randomBytes } from 'node:crypto';
import { constants } from 'node:os';

import { ensure } from '../base/errors.ts';
import { bind, errnoName, lastErrno, systemError, type Long } from './call.ts';
import { ownCredentials, type Credentials } from './credentials.ts';
import { close } from './descriptor.ts';
import { DatagramBatch } from './datagrams.ts';
import { hasEnded } from './pidfd.ts';
import {
  ConnectorOperation,
  connectorRequest,
  ProcessTally,
  type ProcessChanges,
} from './process-messages.ts';

const { EACCES, EAFNOSUPPORT, EAGAIN, ECONNREFUSED, EINTR } = constants.errno;
const { ENOBUFS, ENOSYS, EPERM, EPROTONOSUPPORT } = constants.errno;

const AF_NETLINK = 16;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2_000_000;
const NETLINK_CONNECTOR = 11;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const PROCESS_GROUP = 1;

/** The kernel doubles it and counts some 830 bytes a message: room for 20,000 that nobody read yet. */
const RECEIVE_BYTES = 8 << 20;

/** Inode numbers that only the first namespaces have (include/linux/proc_ns.h, PROC_USER_INIT_INO, PROC_PID_INIT_INO). */
const FIRST_USER_NAMESPACE = 'user:[4026531837]';
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';

const socket: (family: number, type: number, protocol: number) => number = bind(
  'int socket(int family, int type, int protocol)',
);
const bindSocket: (fd: number, name: Uint8Array, length: number) => number = bind(
  'int bind(int fd, void *name, unsigned int length)',
);
const setsockopt: (
  fd: number,
  level: number,
  option: number,
  value: Uint8Array,
  length: number,
) => number = bind(
  'int setsockopt(int fd, int level, int option, void *value, unsigned int length)',
);
const send: (fd: number, bytes: Uint8Array, length: number, flags: number) => Long = bind(
  'int64_t send(int fd, void *bytes, size_t length, int flags)',
);

/** Which step of {@link ProcessEvents.open} failed. */
export type SubscriptionStep = 'socket' | 'bind' | 'send' | 'acknowledgement';

/**
 * Why a system does not tell of its processes.
 *
 * - `not-permitted`  it would tell somebody with CAP_NET_ADMIN
 * - `namespace`      it tells only the initial namespaces
 * - `not-built-in`   the kernel was built without it
 * - `blocked`        a seccomp filter or a security module forbids it
 * - `system`         a call failed unexpectedly
 */
export interface EventsRefusal {
  readonly kind: 'not-permitted' | 'namespace' | 'not-built-in' | 'blocked' | 'system';
  /** For people: one line without a full stop. */
  readonly reason: string;
}

/** What {@link ProcessEvents.open} takes. */
export interface ProcessEventsOptions {
  /** The receive buffer in bytes, half of what the kernel counts; 8 MiB when absent. For tests, which want it full. */
  readonly receiveBytes?: number;
}

/**
 * Tells when processes begin, execute and end, as the kernel says it. Belongs to the thread that opened it; whoever
 * opened it disposes it. One that is killed instead leaves the kernel numbering events that nobody gets until the
 * machine starts anew: it counts listeners, and a socket that closes does not change the count (cn_proc_mcast_ctl).
 *
 * Nothing wakes Node: libuv knows no netlink sockets (`net.Socket` refuses one), and has no way for a foreign
 * descriptor short of a native module. The caller polls, or waits in a poll(2) of its own for
 * {@link ProcessEvents.descriptor}.
 */
export class ProcessEvents implements Disposable {
  readonly #fd: number;
  readonly #token: number;
  readonly #tally: ProcessTally;
  readonly #batch = new DatagramBatch();
  #isOpen = true;

  private constructor(fd: number) {
    this.#fd = fd;
    this.#token = randomBytes(4).readUInt32LE(0);
    this.#tally = new ProcessTally(this.#token);
  }

  /**
   * Subscribes. From its return on nothing is missed without {@link ProcessChanges.lost} saying so: a caller that lists
   * all processes afterwards knows them all. Some of what is told at first can have happened before.
   * @returns the events, to be disposed, or why there are none. Nothing is left open then.
   */
  static open(options: ProcessEventsOptions = {}): ProcessEvents | EventsRefusal {
    const type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    const fd = socket(AF_NETLINK, type, NETLINK_CONNECTOR);
    if (fd === -1) return explainRefusal('socket', lastErrno());
    const events = new ProcessEvents(fd);
    const refusal = events.#subscribe();
    if (refusal !== undefined) {
      events.#close();
      return refusal;
    }
    if (options.receiveBytes !== undefined) events.#setReceiveBytes(options.receiveBytes);
    return events;
  }

  /** The socket, for a poll(2) with POLLIN: ready when {@link poll} would find something. Not to be read or closed. */
  get descriptor(): number {
    return this.#fd;
  }

  /**
   * Takes all that is there, without waiting. Some of it may be older than what the caller sees of the system.
   * @throws TraplineError `system` when the socket fails.
   */
  poll(): ProcessChanges {
    ensure(this.#isOpen, 'the process events were disposed');
    const errno = this.#receive();
    if (errno !== undefined) throw systemError('read the events of processes', errno);
    return this.#tally.changes((process) => hasEnded(process) === true);
  }

  /** Unsubscribes and closes. */
  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    // Before Linux 6.6 it is counted for the machine, not for the socket: it pairs with one that was acknowledged.
    this.#request(ConnectorOperation.ignore);
    this.#close();
  }

  #subscribe(): EventsRefusal | undefined {
    this.#setReceiveBytes(RECEIVE_BYTES);
    // struct sockaddr_nl (include/uapi/linux/netlink.h): u16 family, u16, u32 port, u32 groups.
    const name = Buffer.alloc(12);
    name.writeUInt16LE(AF_NETLINK, 0);
    name.writeUInt32LE(1 << (PROCESS_GROUP - 1), 8);
    if (bindSocket(this.#fd, name, name.byteLength) === -1) {
      return explainRefusal('bind', lastErrno());
    }
    if (this.#request(ConnectorOperation.listen) < 0) return explainRefusal('send', lastErrno());
    // The kernel answers within send(2) (drivers/connector/connector.c, cn_rx_skb), or not at all.
    const failure = this.#receive();
    const answer = failure ?? this.#tally.answer;
    return answer === 0 ? undefined : explainRefusal('acknowledgement', answer);
  }

  #request(operation: number): number {
    const bytes = connectorRequest(operation, this.#token);
    return Number(send(this.#fd, bytes, bytes.byteLength, 0));
  }

  /** As much as we may have: where the kernel gives less, events are lost sooner, and it is told. */
  #setReceiveBytes(count: number): void {
    const value = Buffer.alloc(4);
    value.writeUInt32LE(count);
    if (setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, value, 4) === 0) return;
    setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUF, value, 4);
  }

  /** @returns the errno of a failure. */
  #receive(): number | undefined {
    for (;;) {
      const count = this.#batch.receive(this.#fd);
      for (let index = 0; index < count; index++) this.#take(index);
      if (count > 0) continue;
      const errno = lastErrno();
      if (count === 0 || errno === EAGAIN) return undefined;
      // The kernel says so once, and drops on until all is read (net/netlink/af_netlink.c, netlink_overrun).
      if (errno === ENOBUFS) this.#tally.lose();
      else if (errno !== EINTR) return errno;
    }
  }

  #take(index: number): void {
    const batch = this.#batch;
    if (!batch.isFromKernel(index)) return;
    if (batch.isCut(index)) this.#tally.lose();
    else this.#tally.take(batch.bytes, batch.startOf(index), batch.endOf(index));
  }

  #close(): void {
    this.#isOpen = false;
    close(this.#fd);
  }
}

/**
 * Why no events are to be had.
 * @param errno what the step failed with, or the kernel answered; undefined when it did not answer
 */
export function explainRefusal(
  step: SubscriptionStep,
  errno: number | undefined,
  credentials: Credentials = ownCredentials(),
): EventsRefusal {
  if (errno === undefined) return explainSilence(credentials);
  if (step === 'socket') {
    // Anybody may make one, and the family is there in every kernel.
    if (isForbidden(errno) || errno === EAFNOSUPPORT || errno === ENOSYS) {
      return {
        kind: 'blocked',
        reason: 'a seccomp filter or a security module forbids a socket to the kernel',
      };
    }
    if (errno === EPROTONOSUPPORT) {
      return { kind: 'not-built-in', reason: 'this kernel has no connector (CONFIG_CONNECTOR)' };
    }
  }
  if (step === 'send' && errno === ECONNREFUSED) {
    return {
      kind: 'namespace',
      reason: 'the kernel tells of processes only in the initial network namespace',
    };
  }
  if (isForbidden(errno)) {
    return {
      kind: 'not-permitted',
      reason: 'the kernel tells of processes only with CAP_NET_ADMIN (from Linux 6.6 on, anybody)',
    };
  }
  return { kind: 'system', reason: `${doing[step]}: ${errnoName(errno)}` };
}

const doing: Readonly<Record<SubscriptionStep, string>> = {
  socket: 'cannot make a socket to the kernel',
  bind: 'cannot join the process connector',
  send: 'cannot ask the process connector',
  acknowledgement: 'the process connector refuses',
};

function isForbidden(errno: number): boolean {
  return errno === EPERM || errno === EACCES;
}

/** The kernel ignores who is elsewhere (drivers/connector/cn_proc.c, cn_proc_mcast_ctl). */
function explainSilence({ pidNamespace, userNamespace }: Credentials): EventsRefusal {
  const elsewhere =
    pidNamespace === FIRST_PID_NAMESPACE
      ? userNamespace === FIRST_USER_NAMESPACE
        ? undefined
        : 'user'
      : 'pid';
  return elsewhere === undefined
    ? {
        kind: 'not-built-in',
        reason: 'this kernel tells of no processes (CONFIG_PROC_EVENTS)',
      }
    : {
        kind: 'namespace',
        reason: `the kernel tells of processes only in the initial ${elsewhere} namespace`,
      };
}
