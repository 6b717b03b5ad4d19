/** The entry of the tracer's thread: one request after another, each answered by a value or an error. */

import { parentPort, workerData } from 'node:worker_threads';

import { ensure, TraplineError } from '../base/errors.ts';
import { enableKillSwitch } from '../sys/call.ts';
import { shareCommands } from '../sys/commands.ts';
import type { ReplyMessage, RequestMessage } from './protocol.ts';
import { Tracer } from './tracer.ts';

const port = parentPort;
ensure(port !== null, 'the tracer runs in a thread of its own');
enableKillSwitch();
ensure(workerData instanceof SharedArrayBuffer, 'the tracer is given the table of commands');
shareCommands(workerData);
const tracer = new Tracer();

port.on('message', ({ id, method, arguments: parameters }: RequestMessage) => {
  port.postMessage(answer(id, method, parameters));
});

function answer(
  id: number,
  method: RequestMessage['method'],
  parameters: readonly unknown[],
): ReplyMessage {
  try {
    // The client's types have held both sides together: see TracerClient.call.
    const run = tracer[method] as (...given: readonly unknown[]) => unknown;
    return { id, value: run.apply(tracer, [...parameters]) };
  } catch (error) {
    // Errors of ours keep their parts; any other is a defect, and goes over with its stack.
    return { id, error: error instanceof TraplineError ? error.toDetails() : error };
  }
}
