/** What sessions, living and dead, hold in processes; and cleaning up after dead ones. */

import { TracerClient } from '../tracer-client.ts';
import type { CleanReport, KernelCleanReport, KernelStatus, ProcessStatus } from './held.ts';

/**
 * What is held in the given processes, or in every one that may be read and holds something.
 * @throws TraplineError `no-process` for one that was named and isn't there.
 */
export async function status(pids?: readonly number[]): Promise<readonly ProcessStatus[]> {
  return withTracer((client) => client.call('status', pids));
}

/**
 * Removes what dead sessions left in the given processes, or in every one that holds something. Living
 * sessions are not touched. A process in which that can't be done is reported with what it keeps, and the others are cleaned.
 * @throws TraplineError `no-process` for one that was named and isn't there; where only one was named also `not-permitted`,
 * `busy`, `refused`.
 */
export async function clean(pids?: readonly number[]): Promise<readonly CleanReport[]> {
  return withTracer((client) => client.call('clean', pids));
}

/** What sessions of the kernel engine have in the kernel; nothing where tracefs is not there for us. */
export async function kernelStatus(): Promise<readonly KernelStatus[]> {
  return withTracer((client) => client.call('kernelStatus'));
}

/** Removes what dead sessions of the kernel engine left in the kernel. Living ones are not touched. */
export async function cleanKernel(): Promise<readonly KernelCleanReport[]> {
  return withTracer((client) => client.call('kernelClean'));
}

/** Runs something with a tracer of its own. */
export async function withTracer<T>(action: (client: TracerClient) => Promise<T>): Promise<T> {
  const client = new TracerClient();
  try {
    return await action(client);
  } finally {
    await client.end();
  }
}
