/**
 * The entry of the tracer's thread: one request after another, each answered by a value or an error; and what tasks have to
 * tell that are held.
 */

import {
  parentPort,
  receiveMessageOnPort,
  workerData,
  type MessagePort,
} from 'node:worker_threads';

import { ensure, TraplineError } from '../base/errors.ts';
import { enableKillSwitch } from '../sys/call.ts';
import { shareCommands } from '../sys/commands.ts';
import { TRACER_NAME } from '../process/permission.ts';
import { Waker } from '../process/waker.ts';
import { nameThread } from '../sys/signals.ts';
import type { NoticeMessage, ReplyMessage, RequestMessage, TracerData } from './protocol.ts';
import { Tracer } from './tracer.ts';

const port = parentPort;
ensure(port !== null, 'the tracer runs in a thread of its own');
enableKillSwitch();
nameThread(TRACER_NAME);
const { commands, wake } = workerData as TracerData; // given by TracerClient
shareCommands(commands);
const waker = new Waker(wake);
const tracer = new Tracer(waker, (notice) => {
  port.postMessage({ notice } satisfies NoticeMessage);
});

port.on('message', (request: RequestMessage) => {
  reply(port, request);
  // While tasks are held nobody else may wait for them, and nothing but a wait tells of them: messages come in between.
  while (tracer.isHolding && !waker.isEnding) {
    const next = receiveMessageOnPort(port);
    if (next === undefined) tracer.attend();
    // Whatever comes by this port is a request.
    else reply(port, next.message as RequestMessage);
  }
  tracer.endTurn();
});

function reply(to: MessagePort, { id, method, arguments: parameters }: RequestMessage): void {
  to.postMessage(answer(id, method, parameters));
}

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
