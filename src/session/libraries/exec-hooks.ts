/**
 * A session's own consumers where a followed program executes another one through its C library: a task waits there, so
 * that it can be let go if what it is about to execute would lose rights under us. See docs/architecture.md, "Following".
 */

import { basename } from 'node:path';

import { address, type Pid, type Tid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { frameOffset, FRAME_BYTES } from '../../engines/jump/frame.ts';
import type { ConsumerRequest } from '../../engines/jump/prepare.ts';
import type { Announcement } from '../../events/announcements.ts';
import type { Program } from '../../probe/program.ts';
import { OWN_PROBE } from '../../process/control-rows.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { pathFrom } from '../../process/rights.ts';
import { MemoryFile } from '../../sys/memory.ts';
import { execFunctions, type ExecFunction } from '../../symbols/exec-functions.ts';
import { isFile, type FileCache } from '../files/files.ts';

/** The C libraries that there are: glibc's names, old and new, and musl's, which is the dynamic linker too. */
const C_LIBRARY =
  /^(?:libc\.so\.6|libc-2\.\d+\.so|ld-musl-.*\.so\.1|libc\.musl-.*\.so\.1|libc\.so)$/;
/** <limits.h>, PATH_MAX. */
const PATH_BYTES = 4096;
/** <fcntl.h>. */
const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;

/** What is asked for, to hear of one of the functions. */
export interface ExecRequest {
  readonly name: ExecFunction;
  readonly request: Omit<ConsumerRequest, 'consumer'>;
}

/**
 * What a process is asked for, to hear of what it executes.
 * @returns nothing for places where no probe can be; undefined while no C library is mapped.
 */
export function execRequests(
  pid: Pid,
  maps: readonly MemoryMapping[],
  files: FileCache,
): readonly ExecRequest[] | undefined {
  const mapping = maps.find((one) => {
    return one.executable && isFile(one) && C_LIBRARY.test(basename(one.path));
  });
  if (mapping === undefined) return undefined;
  try {
    const file = files.open(pid, mapping);
    const functions = [...execFunctions(file.elf)];
    const plans = file.planner.plan(functions.map(([, offset]) => offset));
    return functions.flatMap(([name, offset], index) => {
      const at = file.addressIn(maps, offset);
      const plan = plans[index];
      if (at === undefined || plan === undefined || plan.kind === 'refused') return [];
      const program: Program = { arguments: [], filter: undefined, action: 'announce' };
      const known = { plan, address: at, file: file.identity, counter: undefined };
      return [{ name, request: { ...known, program, probe: OWN_PROBE } }];
    });
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    return []; // not to be read: as if it had no such function
  }
}

/**
 * What a task is about to execute that waits at the entry of one of the functions.
 * @returns the file as we reach it; undefined where it can't be found out
 */
export function announcedFile(
  { frame }: Announcement,
  task: Tid,
  name: ExecFunction,
): string | undefined {
  try {
    using memory = new MemoryFile(task);
    const registers = Buffer.alloc(FRAME_BYTES);
    if (memory.read(address(BigInt.asUintN(47, frame)), registers) < FRAME_BYTES) return undefined;
    const first = registers.readBigUInt64LE(frameOffset('rdi'));
    if (name === 'execve') {
      const path = readPath(memory, first);
      return path && pathFrom(task, `/proc/${task}/cwd`, path);
    }
    const descriptor = Number(BigInt.asIntN(32, first));
    const directory =
      descriptor === AT_FDCWD ? `/proc/${task}/cwd` : `/proc/${task}/fd/${descriptor}`;
    if (name === 'fexecve') return directory;
    const path = readPath(memory, registers.readBigUInt64LE(frameOffset('rsi')));
    const isEmptyMeant = (registers.readUInt32LE(frameOffset('r8')) & AT_EMPTY_PATH) !== 0;
    if (path === '') return isEmptyMeant ? directory : undefined;
    return path && pathFrom(task, directory, path);
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    return undefined; // killed meanwhile
  }
}

function readPath(memory: MemoryFile, at: bigint): string | undefined {
  const bytes = Buffer.alloc(PATH_BYTES);
  const count = memory.read(address(BigInt.asUintN(47, at)), bytes);
  const end = bytes.subarray(0, count).indexOf(0);
  return end < 0 ? undefined : bytes.toString('utf8', 0, end);
}
