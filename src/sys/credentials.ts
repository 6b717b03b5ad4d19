/** Who we are and what we may do, from /proc/self. */

import { readFileSync, readlinkSync } from 'node:fs';

import { bind, type Long } from './call.ts';

/** Bits of the capability sets in /proc/PID/status (include/uapi/linux/capability.h). */
export const Capability = { sysPtrace: 19, sysAdmin: 21 } as const;

/** What decides whether we may attach to a process. */
export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  /** Effective capabilities, bit `1 << number` each. */
  readonly capabilities: bigint;
  /** "user:[4026531837]" */
  readonly userNamespace: string;
  readonly pidNamespace: string;
}

/** Our own credentials, as they are now. */
export function ownCredentials(): Credentials {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'));
  return {
    uid: process.geteuid?.() ?? -1,
    gid: process.getegid?.() ?? -1,
    capabilities: BigInt(`0x${capabilities?.[1] ?? '0'}`),
    userNamespace: readlinkSync('/proc/self/ns/user'),
    pidNamespace: readlinkSync('/proc/self/ns/pid'),
  };
}

/** Whether a credential holds a capability of {@link Capability}. */
export function hasCapability(credentials: Credentials, capability: number): boolean {
  return ((credentials.capabilities >> BigInt(capability)) & 1n) === 1n;
}

const getxattr: (path: string, name: string, value: null, size: number) => Long = bind(
  'int64_t getxattr(const char *path, const char *name, void *value, size_t size)',
);

/** Whether executing a file gives capabilities (capabilities(7), "File capabilities"). */
export function hasFileCapabilities(path: string): boolean {
  return Number(getxattr(path, 'security.capability', null, 0)) > 0;
}

const statfs: (path: string, buffer: Uint8Array) => Long = bind(
  'int64_t statfs(const char *path, void *buffer)',
);
/** struct statfs of x86-64 (asm-generic/statfs.h): its size, and where its `f_flags` lie. */
const STATFS = { bytes: 120, flags: 80 } as const;
const ST_NOSUID = 2n;

/** Whether a file lies in a mount of which no program gives rights (mount(8), nosuid). */
export function isMountedWithoutRights(path: string): boolean {
  const buffer = Buffer.alloc(STATFS.bytes);
  if (Number(statfs(path, buffer)) !== 0) return false;
  return (buffer.readBigUInt64LE(STATFS.flags) & ST_NOSUID) !== 0n;
}
