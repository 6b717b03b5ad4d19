/** Many datagrams of a netlink socket by one call: recvmmsg(2) into memory that is used again. */

import { addressOf, bind } from './call.ts';

const AF_NETLINK = 16;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

/** Datagrams that one call takes. */
const COUNT = 64;
/** The largest datagram that is taken whole; those of the process connector have 76 bytes. */
const DATA_BYTES = 256;

// struct mmsghdr (recvmmsg(2)): a msghdr of 56 bytes, and how many bytes came. struct iovec: address, length.
const HEADER_BYTES = 64;
const HEADER_NAME_LENGTH = 8;
const HEADER_VECTOR = 16;
const HEADER_VECTOR_COUNT = 24;
const HEADER_FLAGS = 48;
const HEADER_RECEIVED = 56;
const VECTOR_BYTES = 16;
// struct sockaddr_nl (include/uapi/linux/netlink.h): u16 family, u16, u32 port, u32 groups.
const NAME_BYTES = 12;
const NAME_PORT = 4;
const NAME_STRIDE = 16;

const VECTORS = COUNT * HEADER_BYTES;
const NAMES = VECTORS + COUNT * VECTOR_BYTES;
const DATA = NAMES + COUNT * NAME_STRIDE;

const recvmmsg: (
  fd: number,
  headers: Uint8Array,
  count: number,
  flags: number,
  timeout: null,
) => number = bind(
  'int recvmmsg(int fd, void *headers, unsigned int count, int flags, void *timeout)',
  () => false, // when something comes differs from run to run, and taking it leaves no trace
);

/** The datagrams of the last {@link DatagramBatch.receive}, by index from 0. */
export class DatagramBatch {
  /** Where the datagrams lie, each from {@link startOf} to {@link endOf}; written over by the next call. */
  readonly bytes: Buffer = Buffer.alloc(DATA + COUNT * DATA_BYTES);

  constructor() {
    const base = addressOf(this.bytes);
    for (let index = 0; index < COUNT; index++) {
      const header = index * HEADER_BYTES;
      const vector = VECTORS + index * VECTOR_BYTES;
      this.bytes.writeBigUInt64LE(base + BigInt(NAMES + index * NAME_STRIDE), header);
      this.bytes.writeUInt32LE(NAME_BYTES, header + HEADER_NAME_LENGTH);
      this.bytes.writeBigUInt64LE(base + BigInt(vector), header + HEADER_VECTOR);
      this.bytes.writeBigUInt64LE(1n, header + HEADER_VECTOR_COUNT);
      this.bytes.writeBigUInt64LE(base + BigInt(this.startOf(index)), vector);
      this.bytes.writeBigUInt64LE(BigInt(DATA_BYTES), vector + 8);
    }
  }

  /**
   * Takes what is there, as much as has room, without waiting.
   * @returns how many datagrams were taken, or -1: the errno says why.
   */
  receive(fd: number): number {
    return recvmmsg(fd, this.bytes, COUNT, MSG_DONTWAIT, null);
  }

  /** Where a datagram begins in {@link bytes}. */
  startOf(index: number): number {
    return DATA + index * DATA_BYTES;
  }

  /** Where it ends. */
  endOf(index: number): number {
    const received = this.bytes.readUInt32LE(index * HEADER_BYTES + HEADER_RECEIVED);
    return this.startOf(index) + Math.min(received, DATA_BYTES);
  }

  /** Whether the end of a datagram had no room. */
  isCut(index: number): boolean {
    return (this.bytes.readUInt32LE(index * HEADER_BYTES + HEADER_FLAGS) & MSG_TRUNC) !== 0;
  }

  /** Whether the kernel sent it: its port is 0, and the kernel itself writes the sender's (af_netlink.c). */
  isFromKernel(index: number): boolean {
    const name = NAMES + index * NAME_STRIDE;
    return (
      this.bytes.readUInt32LE(index * HEADER_BYTES + HEADER_NAME_LENGTH) === NAME_BYTES &&
      this.bytes.readUInt16LE(name) === AF_NETLINK &&
      this.bytes.readUInt32LE(name + NAME_PORT) === 0
    );
  }
}
