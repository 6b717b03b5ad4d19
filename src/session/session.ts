/** A session: one party using Trapline. */

import { TraplineError } from '../base/errors.ts';
import type { EventBatch } from '../events/batch.ts';
import type { TraceEvent } from '../events/event.ts';
import type {
  AddedProbe,
  ProbeRequest,
  SessionOptions,
  SpawnOptions,
  Summary,
  TargetEnd,
  TargetInfo,
  TargetSelection,
} from './types.ts';

function later(): never {
  throw new TraplineError({ code: 'internal', message: 'internal error: not there yet' });
}

export async function attach(
  _targets: TargetSelection,
  _options: SessionOptions = {},
): Promise<Session> {
  return later();
}

export async function spawn(
  _command: readonly string[],
  _options: SpawnOptions = {},
): Promise<Session> {
  return later();
}

export class Session implements AsyncDisposable, AsyncIterable<TraceEvent> {
  /** The targets as they were when the session began. */
  get targets(): readonly TargetInfo[] {
    return later();
  }

  /** The probes that are in now. */
  get probes(): readonly AddedProbe[] {
    return later();
  }

  /** Resolves when the last target has ended by itself; also after {@link stop}. */
  get ended(): Promise<readonly TargetEnd[]> {
    return later();
  }

  add(_request: string | ProbeRequest): Promise<AddedProbe> {
    return later();
  }

  remove(_probe: AddedProbe): Promise<void> {
    return later();
  }

  /** Events in order of time, many at once; a batch is valid until the next one is asked for. */
  batches(): AsyncIterable<EventBatch> {
    return later();
  }

  [Symbol.asyncIterator](): AsyncIterator<TraceEvent> {
    return later();
  }

  /** The state now. */
  summary(): Promise<Summary> {
    return later();
  }

  /** Takes everything out of the targets; what was recorded is still delivered; then iterations end. */
  stop(): Promise<Summary> {
    return later();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
